"""Cancelling a task exactly where it waits: the first time it does, the second time, and so on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def is_cancelled_at(wait: int, work: Coroutine[Any, Any, object], *, within: float, times: int = 1) -> bool:
    """Run `work` in a task that is cancelled at its n-th wait, counted from 1 (and at the next ones, `times` in all).

    False if it never waited so often; whatever it raises but the cancellation is raised. It must end `within` seconds,
    and a cancellation must end it.
    """
    counted = _Counted(work, range(wait, wait + times))
    task = asyncio.create_task(counted.run(), name=f"cancelled at its wait {wait}")
    done, _ = await asyncio.wait([task], timeout=within)
    assert done, f"cancelled at its wait {wait}, it has not ended after {within:g} s: {task.get_stack()}"
    if not task.cancelled():
        task.result()
        assert counted.waits < wait, f"cancelled at its wait {wait}, it went on as if nothing had happened"
    return counted.waits >= wait


class _Counted(Generic[T]):
    """Passes on what a coroutine waits for, and cancels the task that runs it at some of its waits."""

    def __init__(self, work: Coroutine[Any, Any, T], cancelled: range) -> None:
        self._work = work
        self._cancelled = cancelled
        self.waits = 0

    async def run(self) -> T:
        return await self

    def __await__(self) -> Generator[Any, None, T]:
        steps = self._work.__await__()
        step: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                waited_for = step()
            except StopIteration as end:
                value: T = end.value
                return value
            self._count()
            try:
                yield waited_for
                step = partial(next, steps)
            except BaseException as error:  # noqa: BLE001 - a cancellation too is for the coroutine to deal with
                step = partial(steps.throw, error)

    def _count(self) -> None:
        self.waits += 1
        task = asyncio.current_task()
        if task is not None and self.waits in self._cancelled:
            asyncio.get_running_loop().call_soon(task.cancel)
