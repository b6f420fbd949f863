"""The rescuer: sees to what nobody else can: executions of dead workers, and deadlines nobody kept.

Every worker process runs one. They need no leader: whatever a rescuer does is an ordinary command, guarded by the
version it was decided on, so two rescuers that find the same execution rescue it once.
"""

from __future__ import annotations

import asyncio
from random import uniform

import structlog

from execution.domain.commands import Command, Expire, Rescue
from execution.domain.execution import Execution
from execution.errors import ConflictError, DatabaseError, ExecutionNotFoundError
from execution.repository.wakeups import Topic, Wakeups
from execution.repository.workers import WorkerStore
from execution.state_manager import ExecutionStateManager
from execution.waiting import is_set_within

log = structlog.get_logger(__name__)

BATCH = 500
RUNNING_SLACK_SECONDS = 5.0
"""How long past its time limit a RUNNING execution is left to its worker, which stops the handler itself."""
FORGET_DEAD_WORKERS_SECONDS = 3_600.0
RETRY_SECONDS = 1.0
MIN_PAUSE_SECONDS = 0.01
ACTOR = "rescuer"


class Rescuer:
    """Buries silent workers, rescues what they held, and ends what has outlived its deadline."""

    def __init__(
        self, workers: WorkerStore, state_manager: ExecutionStateManager, wakeups: Wakeups, *, poll_interval: float
    ) -> None:
        self._workers = workers
        self._state_manager = state_manager
        self._wakeups = wakeups
        self._poll_interval = poll_interval
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Rescue until cancelled."""
        unsubscribe = self._wakeups.subscribe(Topic.DEADLINE, self._woken.set)
        try:
            while True:
                self._woken.clear()
                try:
                    pause = await self.rescue_once()
                except DatabaseError as error:
                    log.warning("rescuer.waiting_for_database", error=str(error))
                    pause = RETRY_SECONDS
                await is_set_within(self._woken, pause)
        finally:
            unsubscribe()

    async def rescue_once(self) -> float:
        """One round; returns how many seconds the next one can wait."""
        survey = await self._workers.survey(RUNNING_SLACK_SECONDS)
        if survey.silent_workers:
            for worker_id in await self._workers.bury():
                log.warning("worker.declared_dead", worker_id=str(worker_id))
        found: list[Execution] = []
        if survey.dead_workers or survey.silent_workers:
            found = await self._workers.orphans(BATCH)
            await self._each(found, "execution.rescued")
            await self._workers.forget_dead(FORGET_DEAD_WORKERS_SECONDS)
        if survey.overdue:
            overdue = await self._workers.overdue(RUNNING_SLACK_SECONDS, BATCH)
            await self._each(overdue, "execution.expired", Expire())
            found += overdue
        # After a round that found something, look again: there may be more, or another deadline close behind.
        return MIN_PAUSE_SECONDS if found else self._pause(survey.seconds_until_deadline)

    async def _each(self, executions: list[Execution], action: str, command: Command | None = None) -> None:
        async with asyncio.TaskGroup() as group:
            for execution in executions:
                group.create_task(self._settle(execution, action, command or _rescue(execution)))

    async def _settle(self, execution: Execution, action: str, command: Command) -> None:
        try:
            after = await self._state_manager.apply(execution.id, command, actor=ACTOR)
            log.info(action, execution_id=str(execution.id), state=after.state, version=after.version)
        except (ConflictError, ExecutionNotFoundError) as error:
            log.info("rescuer.overtaken", execution_id=str(execution.id), error=str(error))

    def _pause(self, seconds_until_deadline: float | None) -> float:
        """Until the next deadline, at most one poll interval; jittered, so that rescuers do not come in step."""
        longest = self._poll_interval * uniform(0.8, 1.0)
        if seconds_until_deadline is None:
            return longest
        return min(max(MIN_PAUSE_SECONDS, seconds_until_deadline), longest)


def _rescue(execution: Execution) -> Rescue:
    if execution.worker_id is None:
        raise ValueError("only a held execution can be rescued")
    return Rescue(worker_id=execution.worker_id)
