"""The shape of a bundle, for reading one from anywhere: every field, and nothing but them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct, ValidationError, convert

from execution.domain.execution import JsonObject
from execution.steps.errors import BrokenEvidenceError

Digest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]
Moment = Annotated[datetime, Meta(tz=True)]
Index = Annotated[int, Meta(ge=0)]
EndedStatus = Literal["COMPLETED", "FAILED", "CANCELLED", "OUTCOME_UNKNOWN"]


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing may be missing, and nothing added."""


class Content(_Part, frozen=True):
    """A JSON object that is kept inline, or elsewhere."""

    digest: Digest
    size: Index
    inline: JsonObject | None
    place: str | None


class Job(_Part, frozen=True):
    """What is known of a job when it begins."""

    job_id: UUID
    contract_id: UUID
    executed_by: str
    executor_version: str
    started_at: Moment
    health_before: JsonObject | None
    digest: Digest


class PlannedStep(_Part, frozen=True):
    """A step as it was declared."""

    step_index: Index
    step_type: str
    target: str
    timeout_seconds: float | None
    weight: float
    parameters: Content
    digest: Digest


class Handler(_Part, frozen=True):
    """Who executed a step."""

    name: str
    version: str
    idempotent: bool


class StepRecord(_Part, frozen=True):
    """A step as it was executed."""

    step_index: Index
    attempt: Annotated[int, Meta(ge=1)]
    inputs_digest: Digest
    handler: Handler | None
    executed_by: str
    status: EndedStatus
    started_at: Moment
    completed_at: Moment
    output: Content | None
    error: str | None
    health_before: JsonObject | None
    health_after: JsonObject | None
    previous: Digest
    digest: Digest

    @property
    def is_completed(self) -> bool:
        return self.status == "COMPLETED"


class Closing(_Part, frozen=True):
    """How the job ended."""

    final_status: Literal["COMPLETED", "FAILED", "CANCELLED"]
    final_reason: str
    completed_at: Moment
    health_after: JsonObject | None
    steps_executed: Index
    steps_succeeded: Index
    steps_failed: Index
    previous: Digest
    digest: Digest


class Bundle(_Part, frozen=True):
    """The whole file."""

    format: Literal["execution-evidence/1"]
    job: Job
    plan: tuple[PlannedStep, ...]
    opening: Digest
    steps: tuple[StepRecord, ...]
    closing: Closing


def shaped(value: Any) -> Bundle:
    """The value as a bundle.

    Raises:
        BrokenEvidenceError: it is none; it names the field.
    """
    try:
        return convert(value, Bundle)
    except ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        raise BrokenEvidenceError(_place(path), problem[:1].lower() + problem[1:]) from None


def _place(path: str) -> str:
    """`$.steps[2].output`, as msgspec quotes it, without what is the same for every place."""
    return path.strip("`").removeprefix("$").removeprefix(".").removeprefix("key") or "the document"
