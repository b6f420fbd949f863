"""Workers by the dozen, to be killed at any moment of their lives."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.nursery import NursedProcess, nursery
from tests.support.worker_process import environment


class WorkerNursery:
    """Starts them and kills them, by their pids."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._workers: dict[int, NursedProcess] = {}

    async def start(self) -> int:
        """A new worker's pid. It has just been forked: it still has to connect, and can be killed before it has."""
        worker = await nursery().start("tests.support.worker_process", [], self._variables)
        self._workers[worker.pid] = worker
        return worker.pid

    async def kill(self, pid: int) -> None:
        """As the system does it: nothing of the worker runs afterwards."""
        worker = self._workers.pop(pid)
        worker.kill()
        await worker.communicate()
        assert worker.returncode == -signal.SIGKILL, "it had ended by itself"

    async def kill_all(self) -> None:
        for pid in list(self._workers):
            await self.kill(pid)


@asynccontextmanager
async def worker_nursery(url: str, **changes: Any) -> AsyncIterator[WorkerNursery]:
    """Where workers with these settings come from; at the end, every one that is left is killed."""
    workers = WorkerNursery(environment(url, **changes))
    try:
        yield workers
    finally:
        await workers.kill_all()
