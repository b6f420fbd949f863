"""What is answered to a request under a key of its sender's, and who may answer it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from execution.domain.execution import Execution


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was answered to a request: an HTTP status, the headers worth keeping, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The right to carry out the request under a key, until `expires_at` on the monotonic clock."""

    tenant_id: str
    key: str
    fingerprint: bytes
    command_id: UUID
    """The id the request's commands have to carry: that of whoever held the key before, if nobody answered."""
    lock_token: UUID
    seconds: float
    expires_at: float
    is_first: bool = True
    """Has nobody else held the key before, who may have carried out the request?"""

    @property
    def seconds_left(self) -> float:
        """How long the holder may go on."""
        return self.expires_at - time.monotonic()


@dataclass(eq=False)
class KeyedAnswer:
    """An answer on its way to be kept under its key, in the transaction of the effect it tells of."""

    reservation: Reservation
    answer: Answer
    is_provisional: bool = False
    """Is it given only if its sender dies before it has put the answer that it gives in its place?"""
    is_kept: bool = False
    """Is it known to be committed? If not, it may be kept by a statement of its own: the same answer twice is one."""


AnswerTo: TypeAlias = Callable[[Execution], KeyedAnswer]
"""Makes the answer to the request behind a change, of the execution as it is going to be after it."""


class KeyedRequest:
    """A request that is being carried out under a key."""

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation
        self._answer: KeyedAnswer | None = None

    @property
    def kept(self) -> Answer | None:
        """The answer to give, if it is known to be committed together with the effect."""
        kept = self._answer
        return kept.answer if kept is not None and kept.is_kept and not kept.is_provisional else None

    def answered_by(self, respond: Callable[[Execution], Answer], *, is_provisional: bool = False) -> AnswerTo:
        """What a change takes along: the answer that is going to be given once it is committed.

        A provisional one is not given as long as the request is under way: `kept` does not know it.
        """

        def answer_to(execution: Execution) -> KeyedAnswer:
            return self.takes(respond(execution), is_provisional=is_provisional)

        return answer_to

    def takes(self, answer: Answer, *, is_provisional: bool = False) -> KeyedAnswer:
        """An answer that goes along with what it tells of; it takes the place of one that was not kept."""
        self._answer = KeyedAnswer(self.reservation, answer, is_provisional)
        return self._answer
