"""Errors about coordinated jobs and their scopes: a continuation of the tree in `execution.errors`.

ExecutionServiceError
├── ScopeRefusedError                   the risk gate (P2FC-4) refuses an action
│   ├── ScopeRequiredError
│   ├── ScopeNotFoundError
│   ├── ScopeOfOtherTenantError
│   ├── ScopeOfOtherIncidentError
│   ├── ScopeOfOtherActionError
│   ├── ScopeRiskTooLowError
│   ├── ScopeExpiredError
│   └── ScopeUsedUpError
├── ConflictError
│   ├── JobInProgressError
│   └── JobIdReusedError                for another job
├── JobNotRecordedError                 its end could not be written; it carries the result
└── NoServiceError                      nobody has said which service coordinates
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from execution.errors import ConflictError, ExecutionServiceError
from execution.steps.model import ExecutionResult


class ScopeRefusedError(ExecutionServiceError):
    """The risk gate refuses an action; nothing of it was done."""

    code = "scope_refused"
    status = 403
    facts = ("action", "incident_id", "scope_id")
    why: ClassVar[str] = "its scope does not hold"
    advice: ClassVar[str] = "Have a scope granted for exactly this"

    def __init__(self, action: str, incident_id: str, scope_id: UUID | None = None) -> None:
        self.action, self.incident_id, self.scope_id = action, incident_id, scope_id
        by = f" under scope {scope_id}" if scope_id else ""
        super().__init__(f"{action!r} on incident {incident_id!r}{by} is refused: {self.why}. {self.advice}.")


class ScopeRequiredError(ScopeRefusedError):
    """The action is of high risk, and nobody has granted a scope for it."""

    code = "scope_required"
    why = "it is of high risk, and there is no scope for it"


class ScopeNotFoundError(ScopeRefusedError):
    """No scope of that id."""

    code = "scope_not_found"
    why = "there is no such scope"
    advice = "Check the id, or have a scope granted"


class ScopeOfOtherTenantError(ScopeRefusedError):
    """The scope is another tenant's; nothing else is told of it."""

    code = "scope_of_other_tenant"
    why = "it is not this tenant's scope"


class ScopeOfOtherIncidentError(ScopeRefusedError):
    """The scope was granted for another incident."""

    code = "scope_of_other_incident"
    why = "the scope is for another incident"


class ScopeOfOtherActionError(ScopeRefusedError):
    """The scope was granted for another action."""

    code = "scope_of_other_action"
    why = "the scope is for another action"


class ScopeRiskTooLowError(ScopeRefusedError):
    """The scope was granted while the action counted as one of lower risk."""

    code = "scope_risk_too_low"
    why = "the scope was granted for a lower risk than the action has"


class ScopeExpiredError(ScopeRefusedError):
    """The scope held until a time that has passed."""

    code = "scope_expired"
    why = "the scope has expired"
    advice = "Have a new one granted"


class ScopeUsedUpError(ScopeRefusedError):
    """The scope was used as often as it may be."""

    code = "scope_used_up"
    why = "the scope is used up"
    advice = "Have a new one granted"


REFUSALS: dict[str, type[ScopeRefusedError]] = {one.code: one for one in ScopeRefusedError.__subclasses__()}
"""Every refusal by its code, as the log names it."""


class JobInProgressError(ConflictError):
    """The job is being executed, here or elsewhere, or was when its process died."""

    code = "job_in_progress"
    retriable = True

    def __init__(self, job_id: UUID, state: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"Job {job_id} is being executed ({state}). Deliver it again later: once it has ended, or its time limit "
            "has passed, you are given its outcome."
        )


class JobIdReusedError(ConflictError):
    """The id was used for another job."""

    code = "job_id_reused"

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        super().__init__(
            f"The id {job_id} was used for another job. Deliver that one exactly, or give this one a new id."
        )


class JobNotRecordedError(ExecutionServiceError):
    """The job's steps were executed, but its end could not be written to the log. `result` has the evidence."""

    code = "job_not_recorded"
    status = 503

    def __init__(self, job_id: UUID, problem: str, result: ExecutionResult | None) -> None:
        self.job_id, self.result = job_id, result
        super().__init__(f"The end of job {job_id} is not in its log: {problem} Keep the `result` of this error.")


class NoServiceError(ExecutionServiceError):
    """There is no service that could coordinate."""

    code = "no_service"
    status = 503

    def __init__(self) -> None:
        super().__init__(
            "No service coordinates here. Pass one, create_coordinated_executor(service), or call it inside "
            "`with using_service(service):`."
        )
