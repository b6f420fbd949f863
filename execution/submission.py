"""What a client hands in: checked completely before anything is written."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from execution import ids
from execution.domain.commands import Create
from execution.domain.documents import problems_of, to_document
from execution.domain.execution import JsonObject
from execution.domain.retry import YEAR_SECONDS, RetryPolicy
from execution.domain.text import storable
from execution.errors import InvalidDocumentError

_KIND = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$"
_TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
_VALID_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
MAX_YEAR = 9000


class Submission(BaseModel):
    """A new execution as its client describes it. Durations are seconds."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        json_schema_extra={"examples": [{"kind": "text.analyze", "parameters": {"path": "README.md"}, "priority": 5}]},
    )

    kind: str = Field(pattern=_KIND, description="The handler to run.", examples=["text.analyze"])
    parameters: dict[str, Any] = Field(default_factory=dict, description="What the handler is given.")
    id: UUID | None = Field(default=None, description="The execution's id, to make a repeated submission harmless.")
    agent_id: str | None = Field(default=None, min_length=1, max_length=200)
    task_id: str | None = Field(default=None, min_length=1, max_length=200)
    priority: int = Field(default=0, strict=True, ge=-1000, le=1000, description="Higher runs first.")
    run_at: datetime | None = Field(default=None, description="Not before this time; with time zone.")
    retry: RetryPolicy | None = Field(default=None, description="When a failed attempt is repeated; default: never.")
    schedule_to_start: Annotated[float, Field(strict=True, gt=0, le=YEAR_SECONDS)] | None = Field(
        default=None, description="Limit of waiting, in seconds."
    )
    start_to_close: Annotated[float, Field(strict=True, gt=0, le=YEAR_SECONDS)] | None = Field(
        default=None, description="Limit of one attempt, in seconds."
    )
    parent_id: UUID | None = None
    trace_context: str | None = Field(default=None, pattern=_TRACEPARENT, description="W3C traceparent.")
    start: bool = Field(default=True, strict=True, description="False: stay CREATED until a start command.")

    @field_validator("run_at", mode="before")
    @classmethod
    def _time_is_written_as_one(cls, run_at: object) -> object:
        if run_at is None or isinstance(run_at, datetime) or (isinstance(run_at, str) and "-" in run_at[1:]):
            return run_at
        raise ValueError("a time is written as in ISO 8601, with its zone, such as 2030-01-01T08:00:00Z")

    @field_validator("run_at")
    @classmethod
    def _time_has_a_zone(cls, run_at: datetime | None) -> datetime | None:
        if run_at is None:
            return None
        if run_at.tzinfo is None:
            raise ValueError("a time needs a time zone, such as a trailing Z")
        if not 1 < run_at.year < MAX_YEAR:  # with room for zones and time limits, which are added to it
            raise ValueError(f"a time lies between the years 1 and {MAX_YEAR}")
        return run_at

    @field_validator("agent_id", "task_id")
    @classmethod
    def _name_can_be_stored(cls, name: str | None) -> str | None:
        if name is not None and storable(name) != name:
            raise ValueError("it contains a character that cannot be stored")
        return name

    @field_validator("retry")
    @classmethod
    def _error_types_can_be_stored(cls, retry: RetryPolicy | None) -> RetryPolicy | None:
        if retry is not None and any(storable(one) != one for one in retry.error_types):
            raise ValueError("an error type contains a character that cannot be stored")
        return retry

    def traced_by(self, traceparent: str | None) -> Submission:
        """With what its sender is traced by, unless it says so itself. Where that is malformed, the standard asks to go
        on without, not to refuse.
        """
        if self.trace_context is None and traceparent and _VALID_TRACEPARENT.fullmatch(traceparent):
            return self.model_copy(update={"trace_context": traceparent})
        return self

    @classmethod
    def checked(cls, /, **fields: Any) -> Submission:
        """A submission from keyword arguments.

        Raises:
            InvalidDocumentError: it says which field and why.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            raise InvalidDocumentError("The submission", problems_of(error, "submission")) from None

    def to_command(
        self,
        tenant_id: str,
        *,
        new_id: UUID | None = None,
        document_limit: int,
        schedule_to_start: float | None = None,
        start_to_close: float | None = None,
    ) -> Create:
        """The command that records it; `new_id` and the limits are what holds where the client named none.

        Raises:
            InvalidDocumentError, DocumentTooLargeError: of the parameters.
        """
        parameters: JsonObject = to_document(self.parameters, "parameters", document_limit)
        return Create(
            id=self.id or new_id or ids.new_id(),
            tenant_id=tenant_id,
            kind=self.kind,
            parameters=parameters,
            agent_id=self.agent_id,
            task_id=self.task_id,
            priority=self.priority,
            run_at=self.run_at,
            retry_policy=self.retry,
            schedule_to_start=self.schedule_to_start if self.schedule_to_start is not None else schedule_to_start,
            start_to_close=self.start_to_close if self.start_to_close is not None else start_to_close,
            parent_id=self.parent_id,
            trace_context=self.trace_context,
            start=self.start,
        )
