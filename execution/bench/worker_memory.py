"""Resident memory of a worker process with much to do."""

from __future__ import annotations

import asyncio
import time

import psutil

from execution.bench.command_process import command_process
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service

RUNNING = 200
SUBMIT_AT_ONCE = 500
SECONDS_TO_FILL = 60.0
WATCHED_SECONDS = 3.0
"""The worker is looked at so long once it is full: through a heartbeat and some reviews of what it runs."""
POLL_SECONDS = 0.1
MIB = 1024 * 1024


async def worker_rss_mib(url: str, queued: int) -> float:
    """Most MiB that a worker process needs which runs 200 executions while `queued` wait."""
    async with open_service(Settings.load(database_url=url, log_level="WARNING")) as service:
        for _ in range(0, queued + RUNNING, SUBMIT_AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for _ in range(SUBMIT_AT_ONCE):
                    group.create_task(service.create_execution("noop", {"seconds": 3600}))
        async with command_process("worker", url, worker_concurrency=RUNNING) as pid:
            await _wait_until_full(service)
            return await _most_resident(psutil.Process(pid)) / MIB


async def _wait_until_full(service: ExecutionService) -> None:
    async with asyncio.timeout(SECONDS_TO_FILL):
        running = 0
        while running < RUNNING:
            await asyncio.sleep(POLL_SECONDS)
            _, running = await service.list_executions({"state": "RUNNING"}, {"page_size": 1})


async def _most_resident(worker: psutil.Process) -> int:
    until = time.monotonic() + WATCHED_SECONDS
    most = 0
    while time.monotonic() < until:
        most = max(most, worker.memory_info().rss)
        await asyncio.sleep(POLL_SECONDS)
    return most
