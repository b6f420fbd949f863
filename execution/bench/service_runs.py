"""What the service itself does in the same measures: through the facade and a real worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from execution.bench.command_process import command_process
from execution.bench.figures import Sampler
from execution.bench.floor_latency import timed
from execution.domain.execution import Execution
from execution.handlers import HandlerRegistry
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service

SUBMITTERS = 400
"""Clients that submit at the same time, each waiting for its own answer before the next."""
CONCURRENCY = 1200
"""Executions the worker runs at once: one for each submitter under way, and four batches that run or end."""
LONGEST_RUN_SECONDS = 300.0


@asynccontextmanager
async def service_with_worker(
    url: str, *, concurrency: int = CONCURRENCY, registry: HandlerRegistry | None = None
) -> AsyncIterator[ExecutionService]:
    """A service and a worker in this process. Every progress report is written, as the floor writes every one."""
    settings = Settings.load(
        database_url=url, worker_concurrency=concurrency, progress_interval_seconds=0, log_level="WARNING"
    )
    async with open_service(settings, registry=registry) as service:
        worker = service.create_worker()
        running = asyncio.create_task(worker.run(), name="bench worker")
        try:
            await worker.ready.wait()
            yield service
        finally:
            worker.stop()
            await running


async def per_second(service: ExecutionService, executions: int, progress_reports: int = 0) -> float:
    """Executions submitted and run to their end per second."""
    ended = _CountEnded(executions)
    parameters = {"progress_reports": progress_reports} if progress_reports else {}
    stop_listening = service.state_manager.listen(ended.note)
    try:
        started = time.perf_counter()
        async with asyncio.timeout(LONGEST_RUN_SECONDS), asyncio.TaskGroup() as group:
            for number in range(SUBMITTERS):
                share = executions // SUBMITTERS + (number < executions % SUBMITTERS)
                group.create_task(_submit(service, share, parameters))
            await ended.all.wait()
        return executions / (time.perf_counter() - started)
    finally:
        stop_listening()


@asynccontextmanager
async def in_one_process(url: str) -> AsyncIterator[Sampler]:
    """From submitting one to having the ended execution, with the worker in this process."""
    async with service_with_worker(url) as service:
        yield lambda samples: timed(lambda: _run_one(service), samples)


@asynccontextmanager
async def across_processes(url: str) -> AsyncIterator[Sampler]:
    """The same, with the worker in a process of its own."""
    settings = Settings.load(database_url=url, log_level="WARNING")
    async with command_process("worker", url), open_service(settings) as service:
        yield lambda samples: timed(lambda: _run_one(service), samples)


async def _run_one(service: ExecutionService) -> None:
    execution = await service.create_execution("noop")
    await service.wait(execution.id, LONGEST_RUN_SECONDS)


async def _submit(service: ExecutionService, share: int, parameters: dict[str, int]) -> None:
    for _ in range(share):
        await service.create_execution("noop", parameters)


class _CountEnded:
    """Counts the executions that this process has seen end, where they are committed."""

    def __init__(self, wanted: int) -> None:
        self.all = asyncio.Event()
        self._left = wanted

    def note(self, execution: Execution) -> None:
        """One more change."""
        if execution.is_terminal:
            self._left -= 1
            if self._left == 0:
                self.all.set()
