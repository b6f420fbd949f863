"""Blocking work of a step, awaited: in a thread of its own, and told to stop when whoever awaits it is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """What `work` returns. It is always awaited to its end: a cancellation sets the event, and is then let through."""
    stop = threading.Event()
    # Not the loop's own threads, which are few, and which work of a minute would keep from everybody else.
    threads = ThreadPoolExecutor(1, thread_name_prefix="step")
    running = asyncio.get_running_loop().run_in_executor(threads, work, stop)
    try:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                stop.set()
    finally:
        threads.shutdown(wait=False)
    if stop.is_set():
        running.exception()  # looked at, so that asyncio does not call it lost
        raise asyncio.CancelledError
    return running.result()
