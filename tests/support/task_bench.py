"""A task runner by itself: claims an execution, runs a handler for it, and looks at what was recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from events.commands import InProcessCommandBus
from execution.domain.execution import Execution, JsonObject
from execution.event_emitter import ExecutionEventEmitter
from execution.handlers import HandlerRegistry, TaskContext
from execution.ids import new_id
from execution.progress_tracker import ExecutionProgressTracker
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.workers import WorkerStore
from execution.run import Run
from execution.state_manager import ExecutionStateManager
from execution.task_runner import ExecutionTaskRunner
from tests.support.service import Counted
from tests.support.stored import assert_row_is_fold, submit

KIND = "under.test"


class Bench:
    """A task runner, and a worker's id under which it claims."""

    def __init__(self, database: Database, emitter: ExecutionEventEmitter) -> None:
        self.repository = ExecutionRepository(database)
        self.manager = ExecutionStateManager(self.repository, emitter)
        self.registry = HandlerRegistry()
        self.bus = InProcessCommandBus()
        self.store = WorkerStore(database)
        self.worker_id = new_id()
        tracker = ExecutionProgressTracker(self.repository, emitter, interval=0.0)
        self.runner = ExecutionTaskRunner(
            self.repository, self.manager, tracker, self.bus, registry=self.registry, model_timeout=0.05
        )

    async def claim(self, **changes: Any) -> Execution:
        await submit(self.repository, kind=KIND, **changes)
        (execution,) = await self.store.claim(self.worker_id, {KIND: False}, 1)
        return execution

    async def run(self, handler: Callable[..., Any], **changes: Any) -> Execution:
        """The execution after a run of the handler."""
        self.registry.register(KIND, handler)
        execution = await self.claim(**changes)
        await self.runner.execute_task(execution)
        return await self.after(execution.id)

    async def after(self, execution_id: UUID) -> Execution:
        return await assert_row_is_fold(self.repository, execution_id)

    def run_of(self, execution: Execution) -> Run:
        return self.runner.runs[execution.id]

    async def tell_of(self, execution: Execution) -> None:
        """As the worker's review does: tell the run how its execution stands."""
        self.run_of(execution).observe(await self.repository.get_by_id(execution.id))


class Gate(Counted):
    """A handler that reaches a pause point once it is let go, and then returns."""

    async def handle(self, context: TaskContext, parameters: JsonObject) -> JsonObject:
        await self.stand()
        await context.pause_point()
        return {"went": "through"}
