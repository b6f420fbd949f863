"""Background loops that live as long as a service does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

log = structlog.get_logger(__name__)

RESTART_SECONDS = 1.0


@asynccontextmanager
async def kept_running(name: str, loop: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run an endless loop in the background for the length of the block. If it ends, that is a fault: it is logged, and
    the loop is started again.
    """
    task = asyncio.create_task(_forever(name, loop), name=f"service {name}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _forever(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await loop()
            log.error("loop.ended", loop=name)
        except Exception:  # the loop is a fault barrier: whatever it was, watchers and the bus must be served again
            log.exception("loop.failed", loop=name)
        await asyncio.sleep(RESTART_SECONDS)
