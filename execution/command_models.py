"""What is said with each command, through whichever door it comes: one model for all of them.

A command that makes an execution is a `Submission`.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from execution.domain.text import MAX_REASON_LENGTH


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CommandRequest(_Request):
    """What may be said with a command."""

    reason: str | None = Field(
        default=None, max_length=MAX_REASON_LENGTH, description="Why; it is recorded.", examples=["superseded"]
    )

    def arguments(self) -> dict[str, Any]:
        """As the facade's methods take it."""
        return {"reason": self.reason}


class ProgressRequest(_Request):
    """How far an execution is, from whoever runs it."""

    percentage: float = Field(ge=0, le=100, strict=True, description="Never falls within an attempt.", examples=[40])
    message: str | None = Field(default=None, max_length=MAX_REASON_LENGTH, examples=["page 4 of 10"])
    context: dict[str, Any] | None = Field(default=None, description="Merged into what earlier reports gave.")

    def arguments(self) -> dict[str, Any]:
        """As the facade's `report_progress` takes it."""
        return {"percentage": self.percentage, "message": self.message, "context": self.context}


class ReportedError(BaseModel):
    """Why an execution failed; further members are kept, too."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(default="failed", min_length=1, max_length=200, examples=["PageMissing"])
    message: str = Field(default="", max_length=MAX_REASON_LENGTH, examples=["page 7 cannot be read"])


class ResultRequest(_Request):
    """How an execution ended: with a result, an error, or (`partial`) part of a result and what is missing from it."""

    result: dict[str, Any] | None = Field(default=None, examples=[{"pages": 10}])
    error: ReportedError | None = None
    partial: bool = Field(default=False, strict=True, description="End PARTIAL_SUCCESS.")

    def arguments(self) -> dict[str, Any]:
        """As the facade's `submit_result` takes it."""
        error = None if self.error is None else self.error.model_dump()
        return {"result": self.result, "error": error, "partial": self.partial}

    @model_validator(mode="after")
    def _is_one_end(self) -> Self:
        if self.result is not None and self.error is not None and not self.partial:
            raise ValueError("a result and an error together are part of a result: say partial")
        return self


CommandBody = CommandRequest | ProgressRequest | ResultRequest
"""What is said with a command on an execution that is there."""
