"""How a process of this service is set up, when the process is ours and not a program that uses the library."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

_COLLECT_AFTER = (50_000, 20, 50)
"""Allocations before the cyclic garbage collector looks. Python's default of 700 made it a quarter of the processor
time of a busy worker, whose thousands of pending futures and tasks it visits again and again and finds alive."""


def begin() -> None:
    """Collect no garbage until `run`: what is imported is none, and to look through it took a fifth of every start."""
    gc.disable()


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run the process's main coroutine on uvloop, where there is one."""
    gc.freeze()  # what is imported lives as long as the process
    gc.set_threshold(*_COLLECT_AFTER)
    gc.enable()
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - does not exist on Windows

    return uvloop.run(main)


def stand_back(niceness: int) -> None:
    """Let other processes of this machine go first where they need the processors: 0 not at all, 19 the most.

    One that was started with a lower priority than that keeps it.
    """
    if sys.platform != "win32":
        os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))


def waited_for_processor() -> float:
    """Seconds that this thread was ready to run and had no processor, so far; 0 where the system does not tell."""
    try:
        _, waited, _ = Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 0.0
    return int(waited) / 1e9
