"""A worker in a process of its own, to be killed: `python -m tests.support.worker_process`.

Settings come from the environment. Writes `ready PID` once it claims, drains on SIGTERM, and ends with 0.
Its wall clock is wrong by the seconds in `TEST_CLOCK_IS_WRONG_BY`, if there are any.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from execution import process
from execution.settings import Settings
from execution.wiring import open_service
from tests.support.clocks import shift_wall_clock
from tests.support.nursery import NursedProcess, nursery
from tests.support.service import PATIENCE, SHORT, running_worker

REPOSITORY = Path(__file__).parents[2]
_WRONG_BY = "TEST_CLOCK_IS_WRONG_BY"
FAULT_HANDLERS = "tests.support.fault_handlers"


class WorkerProcess:
    """The test's handle on such a process."""

    def __init__(self, process: NursedProcess) -> None:
        self.process = process
        self.pid = process.pid

    async def ready(self) -> None:
        """Once it claims."""
        async with asyncio.timeout(PATIENCE):
            line = (await self.process.stdout.readline()).decode().split()
        assert line == ["ready", str(self.pid)]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """As the system does it: nothing of the process runs afterwards."""
        self.process.kill()
        await self.ended()

    async def ended(self, *, within: float = PATIENCE) -> int:
        """Its exit code."""
        async with asyncio.timeout(within):
            return await self.process.wait()


@asynccontextmanager
async def worker_process(
    url: str, module: str = "tests.support.worker_process", *arguments: str, wrong_by: float = 0.0, **changes: Any
) -> AsyncIterator[WorkerProcess]:
    """Start one, in a process group of its own, ready to work; killed at the end if it still runs.

    `wrong_by`: seconds that its wall clock is ahead.
    """
    variables = environment(url, **changes) | {_WRONG_BY: str(wrong_by)}
    started = await nursery().start(module, list(arguments), variables)
    try:
        worker = WorkerProcess(started)
        await worker.ready()
        yield worker
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


def environment(url: str, **changes: Any) -> dict[str, str]:
    """The variables that such a process reads its settings from."""
    settings = SHORT | {"database_url": url, "handlers": FAULT_HANDLERS} | changes
    return os.environ | {f"EXECUTION_{name.upper()}": str(value) for name, value in settings.items()}


def work() -> None:
    """Be such a process."""
    process.run(_main())


async def _main() -> None:
    async with open_service(Settings.load()) as service, running_worker(service) as worker:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        print(f"ready {os.getpid()}", flush=True)
        await stopped.wait()
        worker.stop()


if __name__ == "__main__":
    shift_wall_clock(float(os.environ.get(_WRONG_BY, "0")))
    work()
