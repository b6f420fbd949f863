"""Errors about jobs made of steps: a continuation of the tree in `execution.errors`.

ExecutionServiceError
└── InvalidRequestError
    └── InvalidPlanError                the steps of a job cannot be carried out as they are declared
"""

from __future__ import annotations

from execution.errors import InvalidRequestError


class InvalidPlanError(InvalidRequestError):
    """The steps of a job cannot be carried out as they are declared; none of them was."""

    code = "invalid_plan"

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        super().__init__(f"The plan is refused at {place}: {problem}.")
