"""The parts over a database of the test's own, wired as the service wires them."""

from __future__ import annotations

from uuid import UUID

import pytest

from events.bus import InProcessEventBus
from execution.domain.execution import Execution
from execution.event_emitter import ExecutionEventEmitter
from execution.ids import new_id
from execution.lease import Lease
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.workers import WorkerStore
from execution.state_manager import ExecutionStateManager
from tests.support.stored import submit
from tests.support.task_bench import KIND, Bench


@pytest.fixture
def emitter() -> ExecutionEventEmitter:
    return ExecutionEventEmitter(InProcessEventBus())


@pytest.fixture
def state_manager(repository: ExecutionRepository, emitter: ExecutionEventEmitter) -> ExecutionStateManager:
    return ExecutionStateManager(repository, emitter)


@pytest.fixture
async def worker_id(database: Database) -> UUID:
    """A registered worker that claims `noop`."""
    worker_id = new_id()
    await WorkerStore(database).register(worker_id, ["noop"], concurrency=10, timeout_seconds=60)
    return worker_id


@pytest.fixture
async def claimed(database: Database, repository: ExecutionRepository, worker_id: UUID) -> Execution:
    """An execution that the worker has just claimed."""
    await submit(repository)
    (execution,) = await WorkerStore(database).claim(worker_id, {"noop": False}, 1)
    return execution


@pytest.fixture
def lease(repository: ExecutionRepository, claimed: Execution, state_manager: ExecutionStateManager) -> Lease:
    return Lease(repository, claimed, state_manager)


@pytest.fixture
async def bench(database: Database, emitter: ExecutionEventEmitter) -> Bench:
    bench = Bench(database, emitter)
    await bench.store.register(bench.worker_id, [KIND], concurrency=10, timeout_seconds=60)
    return bench
