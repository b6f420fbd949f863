"""The bodies of the requests on many executions, and of their answers."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from execution.api.models import ListedExecution, Problem
from execution.api.values import Moment
from execution.bulk import MAX_SUBMISSIONS
from execution.domain.state import ExecutionState
from execution.domain.text import MAX_REASON_LENGTH
from execution.repository.listing import MAX_PAGE_SIZE
from execution.submission import Submission


def _or_why_not(value: object, check: ValidatorFunctionWrapHandler) -> Submission | ValidationError:
    try:
        submission: Submission = check(value)
    except ValidationError as error:
        return error
    return submission


def _absent() -> None:
    """Not given. A factory, because a default would be shown as a null that the schema does not allow."""


Item = Annotated[Submission, WrapValidator(_or_why_not)]
"""A submission; or, in its place in the list, why it is none, so that the others can be taken."""


class SubmissionBatch(BaseModel):
    """Executions to be submitted together."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"executions": [{"kind": "noop"}, {"kind": "files.inventory", "parameters": {"path": "."}}]},
            ]
        },
    )

    executions: list[Item] = Field(
        min_length=1, max_length=MAX_SUBMISSIONS, description="Each as in the body of `POST /v1/executions`."
    )


class CancellationFilters(BaseModel):
    """Which executions to cancel: those for which everything holds that is given, as in the list."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    state: ExecutionState | SkipJsonSchema[None] = Field(default_factory=_absent)
    kind: str | SkipJsonSchema[None] = Field(default_factory=_absent)
    agent_id: str | SkipJsonSchema[None] = Field(default_factory=_absent)
    task_id: str | SkipJsonSchema[None] = Field(default_factory=_absent)
    parent_id: UUID | SkipJsonSchema[None] = Field(default_factory=_absent)
    created_after: Moment | SkipJsonSchema[None] = Field(default_factory=_absent, description="From this time on.")
    created_before: Moment | SkipJsonSchema[None] = Field(default_factory=_absent, description="Before this time.")

    @model_validator(mode="before")
    @classmethod
    def _something_is_given(cls, filters: Any) -> Any:
        if isinstance(filters, dict) and (not filters or None in filters.values()):
            raise ValueError("at least one filter is needed, and none may be null: leave out what you do not filter by")
        return filters


class BulkCancellationBody(BaseModel):
    """Cancel everything that matches and has not ended."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"filters": {"task_id": "nightly"}, "reason": "superseded", "limit": 100}]},
    )

    filters: CancellationFilters
    reason: str | None = Field(default=None, max_length=MAX_REASON_LENGTH, description="Why; it is recorded with each.")
    limit: int = Field(
        default=MAX_PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, strict=True, description="Executions at most, newest first."
    )


class BulkItem(BaseModel):
    """What became of one execution: the execution, or the problem that it would have been answered with alone."""

    status: int = Field(description="The status it would have been answered with alone.")
    id: UUID | None = Field(description="The execution's id; null where there is none.")
    execution: ListedExecution | SkipJsonSchema[None] = Field(default_factory=_absent)
    problem: Problem | SkipJsonSchema[None] = Field(default_factory=_absent)


class BatchAnswer(BaseModel):
    """What became of each submission, in their order."""

    accepted: int
    refused: int
    items: list[BulkItem]


class BulkCancellationAnswer(BaseModel):
    """What became of each execution that matched, newest first."""

    cancelled: int = Field(description="Those that have ended, or will within their grace.")
    refused: int = Field(description="Those that ended in another way, or were deleted, in the meantime.")
    more: bool = Field(description="Did more match than the limit? The same request cancels the next ones.")
    items: list[BulkItem]
