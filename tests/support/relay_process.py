"""`execution relay` in a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.service import PATIENCE
from tests.support.worker_process import REPOSITORY, environment


class RelayProcess:
    """The test's handle on such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ready(self) -> dict[str, Any]:
        """What it says once it relays or stands by."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            said: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return said

    async def kill(self) -> None:
        """As the system does it: nothing of the process runs afterwards."""
        self.process.kill()
        await self._ended()

    async def stop(self) -> int:
        """In order; its exit code."""
        self.process.terminate()
        return await self._ended()

    async def _ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def relay_process(database_url: str, servers: str, topic: str, **changes: Any) -> AsyncIterator[RelayProcess]:
    """Start one; killed at the end if it still runs."""
    # Beside other tests, one that stands back might wait for long.
    changes = {"relay_lease_seconds": 1, "poll_interval_seconds": 0.05, "relay_niceness": 0} | changes
    settings = environment(database_url, kafka_bootstrap_servers=servers, kafka_events_topic=topic, **changes)
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "execution.cli", "relay", "--json"),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
        env=settings,
        start_new_session=True,
    )
    try:
        yield RelayProcess(started)
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()
