"""A worker in a process of its own, as users start it: `execution worker`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

SECONDS_TO_START = 30.0


@asynccontextmanager
async def worker_process(url: str, **settings: Any) -> AsyncIterator[int]:
    """The pid of a worker that claims; killed at the end, because what it still runs does not matter."""
    given = {"database_url": url, "log_level": "WARNING"} | settings
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "execution.cli",
        "worker",
        "--json",
        env=os.environ | {f"EXECUTION_{name.upper()}": str(value) for name, value in given.items()},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(SECONDS_TO_START):
            if not await worker.stdout.readline():  # it says one line as soon as it claims
                raise RuntimeError("the worker process ended before it was ready")
        yield worker.pid
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.communicate()
