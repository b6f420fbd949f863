"""How a process of this service is set up, when the process is ours and not a program that uses the library."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_COLLECT_AFTER = (10_000, 20, 50)
"""Allocations before the cyclic garbage collector looks. Python's default of 700 made it a quarter of the processor
time of a busy worker, whose thousands of pending futures and tasks it visits again and again and finds alive."""


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run the process's main coroutine on uvloop, where there is one."""
    gc.collect()
    gc.freeze()  # what is imported lives as long as the process
    gc.set_threshold(*_COLLECT_AFTER)
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - does not exist on Windows

    return uvloop.run(main)
