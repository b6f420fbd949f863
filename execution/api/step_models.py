"""The bodies of requests for jobs of steps, and of their answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from execution.api.models import ErrorDocument, ListedProgress
from execution.domain.execution import JsonObject
from execution.domain.retry import YEAR_SECONDS
from execution.domain.state import ExecutionState
from execution.steps.model import StepStatus
from execution.steps.plan import KIND, Plan
from execution.submission import Submission

_ID = "01890000-0000-7000-8000-000000000001"
_STEP: JsonObject = {
    "step_index": 0,
    "id": "search",
    "step_type": "capability_enable",
    "target": "search",
    "weight": 1.0,
    "status": "COMPLETED",
    "attempt": 1,
    "handler": {"name": "capability_enable", "version": "1", "idempotent": True},
    "started_at": "2026-01-01T09:00:00.005000+00:00",
    "completed_at": "2026-01-01T09:00:00.009000+00:00",
    "output": {"capability": "search", "enabled": True, "changed": True},
    "stored_output": None,
    "error": None,
}
_JOB: JsonObject = {
    "id": _ID,
    "state": "COMPLETED",
    "version": 7,
    "attempt": 1,
    "contract_id": None,
    "progress": {"percentage": 100.0, "message": "1 of 1 steps"},
    "error": None,
    "created_at": "2026-01-01T09:00:00.000000+00:00",
    "started_at": "2026-01-01T09:00:00.004000+00:00",
    "completed_at": "2026-01-01T09:00:00.012000+00:00",
    "steps": [_STEP],
    "links": {
        "self": f"/v1/step-jobs/{_ID}",
        "evidence": f"/v1/step-jobs/{_ID}/evidence",
        "execution": f"/v1/executions/{_ID}",
    },
}


class StepJobRequest(Plan):
    """A plan to be carried out, and how."""

    id: UUID | None = Field(default=None, description="The job's id, to make a repeated submission harmless.")
    task_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = Field(default=0, description="Higher runs first.")
    start_to_close: Annotated[float, Field(strict=True, gt=0, le=YEAR_SECONDS)] | None = Field(
        default=None, description="Limit of one attempt, in seconds."
    )

    def submission(self) -> Submission:
        """The job as an execution.

        Raises:
            InvalidDocumentError: a field cannot be stored.
        """
        plan = self.model_dump(mode="json", exclude_unset=True, include={"contract_id", "steps"})
        return Submission.checked(
            kind=KIND,
            parameters=plan,
            id=self.id,
            task_id=self.task_id,
            priority=self.priority,
            start_to_close=self.start_to_close,
        )


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HandlerDocument(_Document):
    """Who executed a step."""

    name: str
    version: str
    idempotent: bool


class StoredOutputDocument(_Document):
    """Where an output is that is too large to be shown."""

    digest: str
    size: int
    place: str | None


class StepDocument(_Document):
    """A step as it is declared, and as it was executed last."""

    step_index: int = Field(ge=0)
    id: str | None
    step_type: str
    target: str
    weight: float
    status: StepStatus
    attempt: int = Field(ge=0, description="How often it was begun.")
    handler: HandlerDocument | None
    started_at: datetime | None
    completed_at: datetime | None
    output: dict[str, Any] | None
    stored_output: StoredOutputDocument | None
    error: str | None


class StepJobLinks(_Document):
    """Where to go on from a job."""

    self: str
    evidence: str
    execution: str


class StepJobDocument(_Document):
    """A job of steps at one version."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_JOB]})

    id: UUID
    state: ExecutionState
    version: int = Field(ge=1)
    attempt: int = Field(ge=1)
    contract_id: UUID | None
    progress: ListedProgress
    error: ErrorDocument | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    steps: list[StepDocument]
    links: StepJobLinks
