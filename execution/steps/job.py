"""A coordinated job as it is delivered: checked whole before anything of it is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from execution.domain.documents import to_document
from execution.domain.execution import JsonObject
from execution.domain.text import storable
from execution.errors import InvalidDocumentError
from execution.steps.frozen import thaw
from execution.steps.model import JobStep, checked_plan
from execution.steps.scope_gate import ScopedAction

MAX_NAME_LENGTH = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be done, for whom, under which contract, and by whom."""

    job_id: UUID
    tenant_id: str
    contract_id: UUID
    plan: tuple[JobStep, ...]
    handler: str
    """The name of who handles it, for the audit."""
    executed_by: str
    wanted: ScopedAction | None = None
    """The action that the risk gate has to let through first."""

    @classmethod
    def checked(
        cls,
        job_id: UUID,
        tenant_id: str,
        contract_id: UUID,
        steps: Iterable[JobStep],
        *,
        handler: str,
        executed_by: str | None = None,
        wanted: ScopedAction | None = None,
    ) -> Self:
        """The job, if it can be carried out and written down.

        Raises:
            InvalidPlanError: of its steps.
            InvalidDocumentError: an id is no UUID, or a name is empty, too long, or cannot be stored.
        """
        return cls(
            job_id=checked_id(job_id, "job_id"),
            tenant_id=checked_name(tenant_id, "tenant_id"),
            contract_id=checked_id(contract_id, "contract_id"),
            plan=checked_plan(steps),
            handler=checked_name(handler, "handler"),
            executed_by=checked_name(handler if executed_by is None else executed_by, "executed_by"),
            wanted=wanted,
        )

    def parameters(self, limit: int) -> JsonObject:
        """The job as the parameters of its execution.

        Raises:
            InvalidDocumentError: a step's parameters hold what PostgreSQL cannot keep (NUL).
            DocumentTooLargeError: it has more than `limit` bytes.
        """
        document: JsonObject = {
            "contract_id": str(self.contract_id),
            "handler": self.handler,
            "executed_by": self.executed_by,
            "steps": [_planned(step) for step in self.plan],
        }
        if self.wanted is not None:
            scope_id = self.wanted.scope_id
            document["action"] = self.wanted.action
            document["incident_id"] = self.wanted.incident_id
            document["scope_id"] = str(scope_id) if scope_id else None
        return to_document(document, f"the plan of job {self.job_id}", limit)


def is_same_job(one: JsonObject, other: JsonObject) -> bool:
    """Are these the parameters of two deliveries of one job? What it does counts, not who delivers it how."""
    return all(one.get(name) == other.get(name) for name in ("contract_id", "steps"))


def checked_id(value: Any, what: str) -> UUID:
    """The id.

    Raises:
        InvalidDocumentError: it is no UUID.
    """
    if not isinstance(value, UUID):
        raise InvalidDocumentError(what, f"it must be a UUID, not {value!r:.100}")
    return value


def checked_name(value: Any, what: str) -> str:
    """The name, a text or a UUID.

    Raises:
        InvalidDocumentError: it is empty, too long, or cannot be stored.
    """
    name = str(value) if isinstance(value, str | UUID) else ""
    if not 0 < len(name) <= MAX_NAME_LENGTH or storable(name) != name:
        raise InvalidDocumentError(
            what, f"it must be a text of 1 to {MAX_NAME_LENGTH} characters that can be stored, not {value!r:.100}"
        )
    return name


def _planned(step: JobStep) -> JsonObject:
    return {
        "step_index": step.step_index,
        "step_type": step.step_type,
        "target": step.target,
        "parameters": thaw(step.parameters),
        "timeout_seconds": step.timeout_seconds,
        "weight": step.weight,
    }
