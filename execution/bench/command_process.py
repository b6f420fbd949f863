"""A worker or a relay in a process of its own, as users start it: `execution worker`, `execution relay`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

SECONDS_TO_START = 30.0


@asynccontextmanager
async def command_process(command: str, url: str, **settings: Any) -> AsyncIterator[int]:
    """The pid of one that has begun; killed at the end, because what it still does does not matter."""
    given = {"database_url": url, "log_level": "WARNING"} | settings
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "execution.cli", command, "--json"),
        env=os.environ | {f"EXECUTION_{name.upper()}": str(value) for name, value in given.items()},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert started.stdout is not None
        async with asyncio.timeout(SECONDS_TO_START):
            if not await started.stdout.readline():  # it says one line as soon as it claims, or publishes
                raise RuntimeError(f"the process of `execution {command}` ended before it was ready")
        yield started.pid
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()
