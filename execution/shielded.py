"""What has to come to its end once it has begun, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end. A cancellation of the caller does not reach it, and is let through afterwards.

    One `asyncio.shield` would not do: a second cancellation would leave the work behind.
    """
    running = asyncio.create_task(work, name="to its end")
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            cancelled = True
    value = running.result()
    if cancelled:
        raise asyncio.CancelledError
    return value
