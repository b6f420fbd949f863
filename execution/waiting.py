"""Waiting for a wake-up, but not for ever."""

from __future__ import annotations

import asyncio

LOOK_SECONDS = 0.5
"""How long is waited before it is looked whether what is waited for can still come, and then again."""


async def is_set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set (True), or the time is over (False). None: no limit."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
