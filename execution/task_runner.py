"""`ExecutionTaskRunner`: runs a claimed execution in three steps: invoke its handler, classify, persist."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from random import random
from typing import Any
from uuid import UUID

import structlog
from msgspec import Struct

from events.commands import CommandBus, CommandBusError
from execution.domain.commands import Finish, Release
from execution.domain.documents import DEFAULT_LIMIT, to_document
from execution.domain.execution import Execution, JsonObject
from execution.domain.outcome import Failed, HandedOver, Invocation, Outcome, classify, describe
from execution.domain.state import ExecutionState
from execution.errors import (
    DatabaseError,
    ExecutionServiceError,
    InvalidExecutionStateError,
    LeaseLost,
    ModelOrchestrationError,
    ServiceClosedError,
)
from execution.handlers import Handler, HandlerRegistry
from execution.isolation import call_in_process, call_in_thread
from execution.lease import Begun, Lease
from execution.progress_tracker import ExecutionProgressTracker, Said, facts_among
from execution.repository.agents import AgentDirectory
from execution.repository.repository import ExecutionRepository
from execution.run import Run, RunContext
from execution.state_manager import ExecutionStateManager

log = structlog.get_logger(__name__)

MODEL_COMMAND = "model.complete"
RETRY_SECONDS = 0.5


class ExecutionTaskRunner:
    """Runs executions that this process has claimed."""

    def __init__(
        self,
        repository: ExecutionRepository,
        state_manager: ExecutionStateManager,
        progress_tracker: ExecutionProgressTracker,
        command_bus: CommandBus,
        *,
        registry: HandlerRegistry | None = None,
        model_timeout: float = 30.0,
        document_limit: int = DEFAULT_LIMIT,
    ) -> None:
        self.repository = repository
        self.state_manager = state_manager
        self.progress_tracker = progress_tracker
        self.command_bus = command_bus
        self.registry = registry or HandlerRegistry()
        self._agents = AgentDirectory(repository.db)
        self._model_timeout = model_timeout
        self._to_result: Callable[[Any], JsonObject] = partial(to_document, what="the result", limit=document_limit)
        self.runs: dict[UUID, Run] = {}
        """The runs under way in this process."""

    async def execute_task(
        self, execution: Execution, *, start_by: float = math.inf, worker_stops: Callable[[], bool] = lambda: False
    ) -> None:
        """Run a claimed execution to its recorded end. Never raises for what the handler does.

        A process that was stopped, or a loop that a handler blocked, may get here long after others have declared the
        worker dead and settled what it held. So later than `start_by` (monotonic) it runs only if the claim stands.
        """
        if time.monotonic() > start_by and not await self._still_holds(execution):
            return
        lease = Lease(self.repository, execution, self.state_manager)
        run = Run(lease, self.progress_tracker.follow(lease), worker_stops)
        self.runs[execution.id] = run
        try:
            invocation = await self._invoke(run)
            outcome = classify(invocation, self._to_result)
            await self._persist(run, outcome)
        finally:
            # A run that was given up may end after its execution has been retried here: that run is not this one.
            if self.runs.get(execution.id) is run:
                del self.runs[execution.id]

    async def give_back(self, execution: Execution, reason: str) -> None:
        """Return a claim whose handler was not started, so that another worker can take it at once."""
        lease = Lease(self.repository, execution, self.state_manager)
        try:
            await lease.apply(Release(reason=reason))
        except (LeaseLost, InvalidExecutionStateError):
            log.info("claim.already_gone", execution_id=str(execution.id))

    # The standard task of kind `agent.task`, from the seed's guide: prepare, call the model, process.

    async def execute_standard_task(self, context: RunContext, parameters: JsonObject) -> JsonObject:
        """Look up the agent, have its model answer, process the answer."""
        execution = context.execution
        context.progress(10, "Preparing the input")
        task_input = await self.prepare_task_input(execution)
        await context.pause_point()
        context.progress(30, "Calling the model")
        response = await self.call_model_service(execution, task_input)
        context.progress(90, "Processing the results")
        return self.process_results(response)

    async def prepare_task_input(self, execution: Execution) -> dict[str, Any]:
        """What the model service is sent: the execution's id, its agent, and its parameters as the input.

        Raises:
            AgentNotFoundError: the execution names no agent, or one that is not registered.
        """
        agent = await self._agents.get(execution.tenant_id, execution.agent_id)
        return {"execution_id": str(execution.id), "agent": agent.to_json(), "input": execution.parameters}

    async def call_model_service(self, execution: Execution, task_input: dict[str, Any]) -> dict[str, Any]:
        """The model service's answer, over the command bus.

        Raises:
            ModelOrchestrationError: no answer in time, nobody to answer, or an error as the answer.
        """
        try:
            return await self.command_bus.request(MODEL_COMMAND, task_input, timeout=self._model_timeout)
        except CommandBusError as error:
            raise ModelOrchestrationError(execution.id, str(error)) from error

    def process_results(self, result: dict[str, Any]) -> dict[str, Any]:
        """The execution's result from a model's answer: its output, and what produced it.

        Raises:
            ModelOrchestrationError: the answer has no output object.
        """
        output = result.get("output")
        if not isinstance(output, dict):
            raise ModelOrchestrationError(None, "its answer has no `output` object")
        return {"output": output, "model": result.get("model"), "usage": result.get("usage", {})}

    async def _still_holds(self, execution: Execution) -> bool:
        while True:
            try:
                current = await self.repository.get_by_id(execution.id)
            except DatabaseError as error:
                log.warning("claim.waiting_for_database", execution_id=str(execution.id), error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if current is not None and current.is_held and current.lease_epoch == execution.lease_epoch:
                return True
            log.warning("claim.lost", execution_id=str(execution.id))
            return False

    # The three steps of a run.

    async def _invoke(self, run: Run) -> Invocation:
        """Call the handler. Whatever it returns or raises becomes a value; only this step can be stopped."""
        value, exception, execution = None, None, run.execution
        try:
            handler = self.registry.get(execution.kind)
            parameters = handler.parse(execution.parameters)
            value = await self._call(handler, run, parameters)
        except (Exception, asyncio.CancelledError, SystemExit) as raised:  # noqa: BLE001 - all of it is its outcome
            exception = raised
            self._log_failure(run, raised)
        finally:
            run.end()
        return Invocation(
            value=value,
            exception=exception,
            cancel_requested=run.cancel_requested,
            timed_out=run.timed_out,
            # A cancellation that nobody asked for is this process being torn down.
            draining=run.draining or not run.stop_requested,
        )

    async def _call(self, handler: Handler, run: Run, parameters: Any) -> Any:
        run.begin()
        if handler.isolation == "task":
            run.stop_handler = _own_task().cancel
            return await handler.function(RunContext(run), parameters)
        if handler.isolation == "thread":
            return await call_in_thread(handler, run, parameters, self.progress_tracker)
        return await call_in_process(handler, run, parameters)

    async def _persist(self, run: Run, outcome: Outcome) -> None:
        """Record the outcome, with the progress not written yet, in one append.

        It is tried until it is recorded, the lease is gone, or the worker has left it: a cancellation arriving here,
        and a database that is away, only make it try again. Each try reads where the last one may have got to, so
        nothing is written twice.
        """
        ending = _Ending(Finish(outcome=outcome, chance=random()))
        is_settled = False
        begun = self._begin_recording(run, ending)
        if begun is not None and run.is_left:
            begun.written.cancel()  # it is on its way, and nobody listens
        elif begun is not None:
            try:  # noqa: SIM105 - `suppress` is three more calls for every run
                await begun.written
            except (ExecutionServiceError, asyncio.CancelledError):
                pass  # `settle` says what it was
            is_settled = self._settle(run, begun)
        while not is_settled and not run.is_left:
            try:
                is_settled = await self._record(run, ending)
            except asyncio.CancelledError:
                log.info("run.cancelled_while_persisting", execution_id=str(run.execution.id))
        if not is_settled:
            log.warning("run.left_unrecorded", execution_id=str(run.execution.id))

    @staticmethod
    def _begin_recording(run: Run, ending: _Ending) -> Begun | None:
        """Queue it where nothing stands in the way, as nearly always."""
        left = run.reporter.close_at_once()
        if left is None:
            return None
        ending.unwritten = left
        return run.lease.begin([*left, ending.finish])

    @staticmethod
    def _settle(run: Run, begun: Begun) -> bool:
        """False: there is reason to try again."""
        try:
            run.lease.settle(begun)
        except (ExecutionServiceError, asyncio.CancelledError):
            return False
        return True

    async def _record(self, run: Run, ending: _Ending) -> bool:
        """Try once; False if there is reason to try again."""
        try:
            if not run.lease.is_lost:
                ending.unwritten += await run.reporter.close()
            await run.lease.apply(*ending.unwritten, ending.finish)
        except LeaseLost:
            log.info("run.lease_lost", execution_id=str(run.execution.id))
        except InvalidExecutionStateError:
            if run.execution.state is ExecutionState.PAUSED:
                await run.resumed()  # the handler left its pause point by itself; its end counts once it may go on
                if run.execution.state is ExecutionState.PAUSED:
                    await asyncio.sleep(RETRY_SECONDS)  # it was asked to stop, and it depends on others how it goes on
            elif len(facts_among(ending.unwritten)) == len(ending.unwritten):
                raise
            # It is being cancelled, which takes no progress any more; facts it takes until its end.
            ending.unwritten = list(facts_among(ending.unwritten))
            return False
        except ServiceClosedError as error:
            log.warning("run.not_recorded", execution_id=str(run.execution.id), error=str(error))
        except DatabaseError as error:
            log.warning("run.not_recorded", execution_id=str(run.execution.id), error=str(error))
            if error.retriable:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                ending.simplify(error)
            return False
        return True

    @staticmethod
    def _log_failure(run: Run, exception: BaseException) -> None:
        if not run.stop_requested and not isinstance(exception, HandedOver):
            log.warning(
                "handler.failed", execution_id=str(run.execution.id), kind=run.execution.kind, exc_info=exception
            )


class _Ending(Struct):
    """What is to be recorded of a run's end."""

    finish: Finish
    unwritten: list[Said] = []
    is_simple: bool = False

    def simplify(self, refusal: DatabaseError) -> None:
        """Leave out what PostgreSQL may have refused, first the progress, then the outcome: every run has to end."""
        if self.is_simple:
            raise refusal
        if not self.unwritten:
            self.finish = Finish(outcome=Failed(error=describe(refusal)), chance=self.finish.chance)
            self.is_simple = True
        self.unwritten = []


def _own_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None  # a coroutine that runs, runs in one
    return task
