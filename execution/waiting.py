"""Waiting for a wake-up, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

LOOK_SECONDS = 1.0
"""How long is waited before it is looked whether what is waited for can still come, and then again."""


async def is_set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set (True), or the time is over (False). None: no limit."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def is_done_while(work: asyncio.Future[Any], holds: Callable[[], Awaitable[bool]]) -> bool:
    """Wait until it is done (True), or what it depends on, asked now and then, holds no longer (False)."""
    while not (await asyncio.wait([work], timeout=LOOK_SECONDS))[0]:
        if not await holds():
            return work.done()
    return True
