"""What a request on many executions comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypedDict
from uuid import UUID

from execution.domain.execution import Execution
from execution.errors import ExecutionServiceError
from execution.keyed_answer import KeyedAnswer

Answer: TypeAlias = Execution | ExecutionServiceError
"""The execution after the command, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class BulkCancellation:
    """What a cancellation of many came to."""

    answers: list[tuple[UUID, Answer]]
    """Each execution that matched, newest first, and what became of it."""
    more: bool
    """Did more match than the limit allowed? Then the same call cancels the next ones."""


AnswerToBatch: TypeAlias = Callable[[list[Answer]], KeyedAnswer | None]
AnswerToCancellation: TypeAlias = Callable[[BulkCancellation], KeyedAnswer | None]
"""Makes what is kept under a key in one transaction with all that was done. None: nothing, a repetition may do more."""


class BatchOptions(TypedDict, total=False):
    """What a request to create many executions may be given besides these."""

    command_id: UUID | None
    """The caller's id of the request: sent again under the same id, none of it is done twice."""
    answer: AnswerToBatch | None
    """With it, all is done in one transaction that keeps the answer, or nothing."""


class CancellationOptions(TypedDict, total=False):
    """The same of a request to cancel many."""

    command_id: UUID | None
    answer: AnswerToCancellation | None
