"""`execution ...` in a process of its own, one of the commands that run until they are told to stop; to be killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from tests.support.nursery import NursedProcess, nursery
from tests.support.service import PATIENCE
from tests.support.waiting import eventually


class CliProcess:
    """The test's handle on such a process."""

    def __init__(self, process: NursedProcess, log: Path | None) -> None:
        self.process = process
        self._log = log

    async def ready(self) -> dict[str, Any]:
        """What it says once it does its work, or stands by."""
        async with asyncio.timeout(PATIENCE):
            said: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return said

    async def says(self, action: str) -> None:
        """Until its log tells of it; only of a process that was given a file for it."""
        log = self._log
        assert log is not None
        await eventually(lambda: action in log.read_text(), within=PATIENCE, what=f"{action} in the log")

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
async def cli_process(
    command: str, environment: Mapping[str, str], *, log: Path | None = None
) -> AsyncIterator[CliProcess]:
    """Start one; killed at the end if it still runs. `log`: the file for its standard error."""
    with log.open("wb") if log else nullcontext() as errors:
        arguments, its_errors = [command, "--json"], errors.fileno() if errors else 2
        started = await nursery().start("execution.cli", arguments, environment, errors=its_errors)
    try:
        yield CliProcess(started, log)
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()
