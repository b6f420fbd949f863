"""Waiting with a deadline: the only place in the tests that polls."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, overload

T = TypeVar("T")

_LOOK_AGAIN_SECONDS = 0.01


@overload
async def eventually(probe: Callable[[], Awaitable[T | None]], *, within: float, what: str) -> T: ...
@overload
async def eventually(probe: Callable[[], T | None], *, within: float, what: str) -> T: ...
async def eventually(probe: Callable[[], Any], *, within: float, what: str) -> Any:
    """The first truthy answer of `probe`; fails with `what` and the last answer after `within` seconds.

    For what has no signal to wait on: other processes, files, rows. Prefer an event where there is one.
    """
    deadline = time.monotonic() + within
    while True:
        answer = probe()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what} (last answer: {value!r})")
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


@asynccontextmanager
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fails when a task that was started inside still exists at the end."""
    before = asyncio.all_tasks()
    yield
    # What the driver does in passing (giving a connection back) ends by itself; a leak does not.
    started = asyncio.all_tasks() - before
    if started:
        await asyncio.wait(started, timeout=1)
    leaked = sorted(task.get_name() for task in started if not task.done())
    assert not leaked, f"tasks left behind: {', '.join(leaked)}"


@asynccontextmanager
async def nothing_overlooked() -> AsyncIterator[None]:
    """Fails when an error was left in a future that nobody has asked (the loop tells of it when that future goes), or
    was raised where only the loop could catch it.
    """
    loop, told = asyncio.get_running_loop(), []
    before, known = loop.get_exception_handler(), _unasked()
    loop.set_exception_handler(lambda _, context: told.append(str(context)))
    try:
        yield
        await asyncio.sleep(0)
        left = [str(future) for future in _unasked() - known]
    finally:
        loop.set_exception_handler(before)
    assert not told + left, "\n".join(told + left)


def _unasked() -> set[asyncio.Future[Any]]:
    """Futures that ended with an error which nobody has taken note of."""
    return {one for one in gc.get_objects() if issubclass(type(one), asyncio.Future) and one._log_traceback}
