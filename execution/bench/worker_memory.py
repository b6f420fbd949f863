"""Resident memory of a worker process with much to do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import psutil

from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service

QUEUED = 10_000
RUNNING = 200
SUBMIT_AT_ONCE = 500
SECONDS_TO_FILL = 60.0
POLL_SECONDS = 0.1


async def worker_rss_mib(url: str) -> float:
    """MiB of a worker process that runs 200 executions while 10,000 wait."""
    async with open_service(Settings.load(database_url=url, log_level="WARNING")) as service:
        for _ in range(0, QUEUED + RUNNING, SUBMIT_AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for _ in range(SUBMIT_AT_ONCE):
                    group.create_task(service.create_execution("noop", {"seconds": 3600}))
        worker = await _start_worker(url)
        try:
            await _wait_until_full(service)
            return psutil.Process(worker.pid).memory_info().rss / 1024 / 1024
        finally:
            worker.send_signal(signal.SIGKILL)
            await worker.wait()


async def _wait_until_full(service: ExecutionService) -> None:
    async with asyncio.timeout(SECONDS_TO_FILL):
        running = 0
        while running < RUNNING:
            await asyncio.sleep(POLL_SECONDS)
            _, running = await service.list_executions({"state": "RUNNING"}, {"page_size": 1})


async def _start_worker(url: str) -> asyncio.subprocess.Process:
    environment = os.environ | {"EXECUTION_DATABASE_URL": url, "EXECUTION_WORKER_CONCURRENCY": str(RUNNING)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "execution.cli", "worker", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
