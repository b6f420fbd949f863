"""A worker that stops itself, once, at an exact place: `python -m tests.support.stopping_worker PLACE`.

It is an ordinary worker process otherwise; only the function that the place names is wrapped. SIGCONT lets it go on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import wraps
from typing import Any
from unittest.mock import patch

import asyncpg
import psutil

from execution.background_manager import BackgroundTaskManager
from execution.repository.repository import ExecutionRepository
from execution.repository.statements import statement
from execution.repository.workers import WorkerStore
from tests.support import fault_handlers
from tests.support.service import PATIENCE
from tests.support.waiting import eventually
from tests.support.worker_process import WorkerProcess, work, worker_process

SEVERAL = 2


class Place(StrEnum):
    """Where it stops."""

    BEFORE_A_WRITE = "before a write"
    INSIDE_A_HANDLER = "inside a handler"
    BETWEEN_CLAIM_AND_START = "between claim and start"
    IN_A_BATCH = "in a batch"
    WHILE_DRAINING = "while draining"


async def stopped(worker: WorkerProcess) -> None:
    """Once it has stopped itself."""
    process = psutil.Process(worker.pid)
    await eventually(
        lambda: process.status() == psutil.STATUS_STOPPED, within=PATIENCE, what="the worker reaches its place"
    )


@asynccontextmanager
async def stopping_worker(url: str, place: Place, **changes: Any) -> AsyncIterator[WorkerProcess]:
    """Start one, as `worker_process` does."""
    async with worker_process(url, "tests.support.stopping_worker", place, **changes) as worker:
        yield worker


def _before_a_write() -> None:
    """What came of a run is decided, and not yet on its way."""
    append = ExecutionRepository.append

    @wraps(append)
    async def stopping(self: ExecutionRepository, *arguments: Any, **named: Any) -> Any:
        if named.get("lease_epoch") is not None:
            _stop_once()
        return await append(self, *arguments, **named)

    _install(ExecutionRepository, stopping)


def _inside_a_handler() -> None:
    """Its side effect is done, and it has not returned."""
    leave_a_mark = fault_handlers.leave_a_mark

    @wraps(leave_a_mark)
    def stopping(*arguments: Any) -> None:
        leave_a_mark(*arguments)
        _stop_once()

    _install(fault_handlers, stopping)


def _between_claim_and_start() -> None:
    """The claim is committed and its answer has arrived; no handler has been called."""
    claim = WorkerStore.claim

    @wraps(claim)
    async def stopping(self: WorkerStore, *arguments: Any) -> Any:
        claimed = await claim(self, *arguments)
        if len(claimed) >= SEVERAL:
            _stop_once()
        return claimed

    _install(WorkerStore, stopping)


def _in_a_batch() -> None:
    """Several ends share a statement, which is about to be sent."""
    fetch = asyncpg.Connection.fetch

    @wraps(fetch)
    async def stopping(self: Any, query: str, *arguments: Any, **named: Any) -> Any:
        if query == statement("append_events") and len(arguments[0]) >= SEVERAL:
            _stop_once()
        return await fetch(self, query, *arguments, **named)

    _install(asyncpg.Connection, stopping)


def _while_draining() -> None:
    """Nothing is claimed any more, and what runs is waited for."""
    wait_idle = BackgroundTaskManager.wait_idle

    @wraps(wait_idle)
    async def stopping(self: BackgroundTaskManager, *arguments: Any) -> Any:
        _stop_once()
        return await wait_idle(self, *arguments)

    _install(BackgroundTaskManager, stopping)


_has_stopped = False


def _stop_once() -> None:
    global _has_stopped  # noqa: PLW0603 - of a process that has nothing else to remember
    if not _has_stopped:
        _has_stopped = True
        os.kill(os.getpid(), signal.SIGSTOP)


def _install(owner: object, stopping: Callable[..., Any]) -> None:
    """For the rest of the process's life."""
    patch.object(owner, stopping.__name__, stopping).start()


_INSTALLERS = {
    Place.BEFORE_A_WRITE: _before_a_write,
    Place.INSIDE_A_HANDLER: _inside_a_handler,
    Place.BETWEEN_CLAIM_AND_START: _between_claim_and_start,
    Place.IN_A_BATCH: _in_a_batch,
    Place.WHILE_DRAINING: _while_draining,
}


if __name__ == "__main__":
    _INSTALLERS[Place(sys.argv[1])]()
    work()
