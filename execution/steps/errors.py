"""Errors about jobs made of steps: a continuation of the tree in `execution.errors`.

ExecutionServiceError
├── InvalidRequestError
│   └── InvalidPlanError                the steps of a job cannot be carried out as they are declared
├── BrokenEvidenceError                 a bundle is not what was recorded
└── StoredOutputError                   an output cannot be put into its store, or read from it
"""

from __future__ import annotations

from execution.errors import ExecutionServiceError, InvalidRequestError


class InvalidPlanError(InvalidRequestError):
    """The steps of a job cannot be carried out as they are declared; none of them was."""

    code = "invalid_plan"

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        super().__init__(f"The plan is refused at {place}: {problem}.")


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
