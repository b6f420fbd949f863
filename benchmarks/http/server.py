"""The servers that are measured, each as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

SECONDS_TO_START = 30.0
SERVERS = {
    "service": ("-m", "execution.cli", "serve", "--port", "0", "--json", "--no-worker", "--no-relay"),
    "bare": ("-m", "benchmarks.http.bare"),
}
"""Both do the same to the tables: they create, and nothing is run."""


@asynccontextmanager
async def server_process(name: str, url: str) -> AsyncIterator[int]:
    """The port of one of the servers, as a process of its own; killed at the end."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *SERVERS[name],
        env=os.environ | {"EXECUTION_DATABASE_URL": url, "EXECUTION_LOG_LEVEL": "WARNING"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert started.stdout is not None
        async with asyncio.timeout(SECONDS_TO_START):
            line = (await started.stdout.readline()).decode().strip()
        yield int(line) if line.isdigit() else urlsplit(json.loads(line)["url"]).port or 0
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()
