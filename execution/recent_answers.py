"""Answers that are kept for a moment, so that a question that many ask is asked once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Answer]):
    answer: Answer
    until: float


class RecentAnswers(Generic[Question, Answer]):
    """What `ask` said, for `seconds` from when it was asked; of those who ask at once, all but one wait for that one.

    At most `limit` answers are kept: the oldest goes first. Errors are not kept.
    """

    def __init__(self, ask: Callable[[Question], Awaitable[Answer]], *, seconds: float, limit: int) -> None:
        self._ask = ask
        self._seconds = seconds
        self._limit = limit
        self._kept: dict[Question, _Kept[Answer]] = {}
        self._asking: dict[Question, asyncio.Task[Answer]] = {}

    async def get(self, question: Question) -> Answer:
        """The answer; errors as `ask`."""
        if (kept := self._fresh(question)) is not None:
            return kept.answer
        asking = self._asking.get(question)
        if asking is None:
            asking = asyncio.create_task(self._ask_and_keep(question), name="question")
            self._asking[question] = asking
            asking.add_done_callback(lambda task: self._asked(question, task))
        return await asyncio.shield(asking)  # the first one to ask may leave: others wait for the same answer

    def __contains__(self, question: Question) -> bool:
        """Is there an answer already?"""
        return self._fresh(question) is not None

    def forget(self) -> None:
        """Ask again whatever is asked next."""
        self._kept.clear()

    async def stop(self) -> None:
        """Break off what is being asked."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _fresh(self, question: Question) -> _Kept[Answer] | None:
        kept = self._kept.get(question)
        return kept if kept is not None and time.monotonic() < kept.until else None

    async def _ask_and_keep(self, question: Question) -> Answer:
        until = time.monotonic() + self._seconds
        answer = await self._ask(question)
        self._kept.pop(question, None)  # so that it becomes the youngest
        self._kept[question] = _Kept(answer, until)
        while len(self._kept) > self._limit:
            del self._kept[next(iter(self._kept))]
        return answer

    def _asked(self, question: Question, task: asyncio.Task[Answer]) -> None:
        del self._asking[question]
        if not task.cancelled():
            task.exception()  # told to whoever still waits
