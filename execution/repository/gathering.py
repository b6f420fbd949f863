"""Concurrent calls of one statement, gathered: while one is under way further calls wait, and go out with the next one.

For what many ask at once and PostgreSQL answers as easily for a hundred as for one: a commit is then shared by all who
wait. Alone, a call waits for nothing. The append lanes do the same with more care, for writes that must not be
repeated; what is gathered here may be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from execution.errors import DatabaseError, DatabaseUnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gathering(Generic[Item, Result]):
    """Calls `run` with the items of all who asked meanwhile; it answers each item, in their order.

    If PostgreSQL refuses a statement of several items, each is tried for itself: one of them spoils it for the others.
    """

    def __init__(
        self, name: str, run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, limit: int = 100
    ) -> None:
        self._name = name
        self._run = run
        self._limit = limit
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Result:
        """The answer to one item. Cancelling the caller does not take it back: it is on its way."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._ask_all(), name=f"gathering {self._name}")
        return await answer

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                count = min(self._limit, len(self._waiting))
                await self._settle([self._waiting.popleft() for _ in range(count)])
        finally:
            self._task = None

    async def _settle(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except DatabaseError as error:
            if len(batch) > 1 and not isinstance(error, DatabaseUnavailableError):
                for one in batch:
                    await self._settle([one])
            else:
                _fail(batch, error)
        except BaseException as error:
            _fail(batch, error)
            raise
        else:
            for (_, answer), result in zip(batch, results, strict=True):
                if not answer.done():
                    answer.set_result(result)


def _fail(batch: Sequence[tuple[object, asyncio.Future[Result]]], error: BaseException) -> None:
    for _, answer in batch:
        if answer.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            answer.cancel()
        else:
            answer.set_exception(error)
