"""Errors about jobs made of steps: a continuation of the tree in `execution.errors`.

ExecutionServiceError
├── InvalidRequestError
│   └── InvalidPlanError                the steps of a job cannot be carried out as they are declared
├── ConflictError
│   ├── NotAStepJobError                an execution of another kind, which leaves no evidence of steps
│   └── EvidenceNotReadyError           the job has not ended
├── BrokenEvidenceError                 a bundle is not what was recorded
└── StoredOutputError                   an output cannot be put into its store, or read from it
"""

from __future__ import annotations

from uuid import UUID

from execution.errors import ConflictError, ExecutionServiceError, InvalidRequestError


class InvalidPlanError(InvalidRequestError):
    """The steps of a job cannot be carried out as they are declared; none of them was."""

    code = "invalid_plan"

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        super().__init__(f"The plan is refused at {place}: {problem}.")


class NotAStepJobError(ConflictError):
    """An execution that is no job of steps."""

    code = "not_a_step_job"
    facts = ("kind",)

    def __init__(self, execution_id: UUID, kind: str) -> None:
        self.execution_id, self.kind = execution_id, kind
        super().__init__(f"Execution {execution_id} is of kind {kind!r}, and no job of steps. Look at its history.")


class EvidenceNotReadyError(ConflictError):
    """A job has evidence once it has ended."""

    code = "evidence_not_ready"
    retriable = True
    facts = ("state",)

    def __init__(self, execution_id: UUID, state: str) -> None:
        self.execution_id, self.state = execution_id, str(state)
        super().__init__(f"Job {execution_id} is {state}. It has evidence once it has ended: ask again then.")


class BrokenEvidenceError(ExecutionServiceError):
    """A bundle of evidence is not what was recorded, or contradicts itself."""

    code = "broken_evidence"
    status = 422
    facts = ("place", "problem")

    def __init__(self, place: str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(f"The evidence does not hold at {place}: {problem}. Get the bundle again from its source.")


class StoredOutputError(ExecutionServiceError):
    """An output that is kept outside of the evidence cannot be stored or read."""

    code = "stored_output"

    def __init__(self, place: str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(f"The stored output {place} cannot be used: {problem}.")
