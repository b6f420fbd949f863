"""A load that comes at its time, whether or not what came before has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def paced(count: int, per_second: float, act: Callable[[int], Awaitable[object]]) -> None:
    """So many acts, each begun at its time; returns when all have ended."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(began + number / per_second - time.perf_counter())
            group.create_task(_await(act(number)))


async def _await(act: Awaitable[object]) -> None:
    await act
