"""The worker: claims due executions in batches, runs them, and says that it lives.

    claim ──► task runner ──► ...          one claimer per process, never a query per slot
    heartbeat                              one row per worker, whatever it runs
    review                                 what was asked of the running executions meanwhile
    rescuer, watchdog                      what nobody else sees to

Stopping in order: nothing new is claimed; what runs may end within the drain time, or leave the rest to another worker
where its log says how far it is; what is left is told to stop, and recorded as interrupted; the worker signs off, and
whatever it could not settle is rescued by others without delay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any
from uuid import UUID

import structlog

from execution.background_manager import BackgroundTaskManager
from execution.domain.execution import Execution
from execution.eager_start import EagerStarts
from execution.errors import DatabaseError, ServiceClosedError
from execution.ids import new_id
from execution.repository.presence import MOMENT_SECONDS
from execution.repository.wakeups import Topic
from execution.repository.workers import WorkerStore
from execution.rescuer import Rescuer
from execution.settings import Settings
from execution.shielded import to_its_end
from execution.task_runner import ExecutionTaskRunner
from execution.waiting import is_set_within
from execution.watchdog import LoopWatchdog
from execution.work_search import WorkSearch

log = structlog.get_logger(__name__)

REVIEW_SECONDS = 1.0
"""How often running executions are looked after when no wake-up says so earlier."""
GATHER_SECONDS = 0.002
"""What a claim waits for more free slots while there is a backlog: one claim for many costs less than many claims."""
STOP_SECONDS = 5.0
"""What handlers get to end once the drain time is over and they were told to stop."""
RETRY_SECONDS = 0.5


class Worker:
    """Runs executions in this process. Start it with `run()`; `stop()` drains it, and may be called at any time."""

    def __init__(
        self,
        *,
        workers: WorkerStore,
        runner: ExecutionTaskRunner,
        tasks: BackgroundTaskManager,
        settings: Settings,
    ) -> None:
        self.id: UUID = new_id()
        self._workers = workers
        self._runner = runner
        self._state_manager = runner.state_manager
        self._tasks = tasks
        self._wakeups = workers.db.wakeups
        self._settings = settings
        self._kinds = self._claimable_kinds()
        self._search = WorkSearch(workers, self._kinds, poll_interval=settings.poll_interval_seconds)
        self._control = asyncio.Event()
        self._stopping = asyncio.Event()
        self.eager = EagerStarts(
            self._kinds,
            tasks,
            begin=self._start,
            doubt=self._look_for_strays,
            trust_seconds=settings.heartbeat_interval_seconds,
        )
        """What it runs without a claim."""
        self._may_have_strays = False
        self._finds_it_away = False
        """Was PostgreSQL away while this worker stopped?"""
        self.ready = asyncio.Event()
        """Set once the worker is registered and claims."""
        self.heard_at = 0.0
        """When the database last heard of it, on the monotonic clock."""
        self.claims = 0
        self.claimed = 0
        """Claims made, and the executions they brought."""
        self.watchdog = LoopWatchdog(settings.loop_lag_warning_seconds)

    def stop(self) -> None:
        """Ask the worker to drain and end; `run()` returns when it has."""
        self._stopping.set()
        self._search.wake()

    async def run(self) -> None:
        """Work until `stop()` is called, then drain.

        Raises:
            DatabaseError: it could not register itself at the start. Later outages are waited out.
        """
        try:
            await to_its_end(self._register())
        except asyncio.CancelledError:
            await to_its_end(self._sign_off())
            raise
        subscriptions = [
            self._wakeups.subscribe_to_work(self._search.wake, self._search.tell),
            self._wakeups.subscribe(Topic.CONTROL, self._control.set),
        ]
        if self._settings.eager_start:
            subscriptions.append(self._state_manager.take_offers(self.eager.reserve))
        self._tasks.on_slot_freed = self._slot_freed
        rescuer = Rescuer(
            self._workers, self._state_manager, self._wakeups, poll_interval=self._settings.poll_interval_seconds
        )
        loops = {
            "heartbeat": self._keep_alive(),
            "review": self._review_runs(),
            "rescuer": rescuer.run(),
            "watchdog": self.watchdog.run(),
            "stop": self._stopping.wait(),
        }
        background = [asyncio.create_task(loop, name=f"worker {name}") for name, loop in loops.items()]
        claimer = asyncio.create_task(self._claim_until_stopped(), name="worker claimer")
        try:
            self.ready.set()
            await _first_end([claimer, *background])
            await self._drain(claimer)
        finally:
            for unsubscribe in subscriptions:
                unsubscribe()
            await to_its_end(self._end(claimer, background))

    # Claiming

    async def _claim_until_stopped(self) -> None:
        while not self._stopping.is_set():
            only = self._search.take_note()
            if self._may_have_strays:
                self._may_have_strays = False
                await self._return_strays()
            limit = await self._room()
            if limit == 0:
                await self._search.wait(REVIEW_SECONDS)
                continue
            if self._has_backlog:
                only = None
            claimed = await self._claim(limit, only)
            # The next claim is on its way before the first of these runs: PostgreSQL works while this process does.
            if only is None:
                self.eager.nothing_waits = len(claimed) < limit
            if not self._has_backlog:
                await _let_runs_go_first()
            self._tell_of(claimed)
            if not self._has_backlog:
                await self._search.rest(only, found=bool(claimed))

    async def _claim(self, limit: int, only: UUID | None) -> list[Execution]:
        """Claim so many that are due, or this one only, and start them."""
        # Within one heartbeat of a claim nobody can have declared this worker dead: it takes three.
        start_by = time.monotonic() + self._settings.heartbeat_interval_seconds
        self.eager.asked = limit if only is None else 1
        try:
            claimed = await self._search.claim(self.id, limit, only)
        except DatabaseError as error:
            log.warning("worker.claim_failed", worker_id=str(self.id), error=str(error))
            await self._return_strays()
            claimed = []
        self.eager.asked = 0
        self.claims += 1
        self.claimed += len(claimed)
        for execution in claimed:
            self._start(execution, start_by)
        return claimed

    def _tell_of(self, claimed: Sequence[Execution]) -> None:
        for execution in claimed:
            self._state_manager.changed(execution)
        if claimed:
            self._wakeups.signal(Topic.LOG)

    async def _room(self) -> int:
        """How many executions to claim now. With a backlog, slots that come free singly are gathered for a moment;
        without one, half of them are left to what is submitted meanwhile."""
        few = min(self._settings.worker_concurrency, self._settings.claim_batch_limit) // 4
        if self._has_backlog and self.eager.free_slots < few:
            await asyncio.sleep(GATHER_SECONDS)
        free = self.eager.free_slots
        if free == 0:
            # Whatever comes free now is first of all for what waits, if anything does.
            self.eager.nothing_waits = False
        elif not self._has_backlog:
            free = (free + 1) // 2
        return min(free, self._settings.claim_batch_limit)

    @property
    def _has_backlog(self) -> bool:
        """Did the last claim get all it asked for? Then more is waiting, and a free slot is worth a claim."""
        return not self.eager.nothing_waits

    def _slot_freed(self) -> None:
        if self._has_backlog:
            self._search.wake()

    def _look_for_strays(self) -> None:
        self._may_have_strays = True
        self._search.wake()

    async def _return_strays(self) -> None:
        """Give back what a claim may have committed before its answer was lost: held by this worker, not running.

        Tried once at least: nobody but this worker knows that their handlers have not been started.
        """
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                held = await self._workers.held_by(self.id)
                for execution in held:
                    if self._tasks.get_task(execution.id) is None and not self.eager.is_coming(execution.id):
                        await self._runner.give_back(execution, "the answer to its claim was lost")
                self.eager.looked()
                return
            except DatabaseError as error:
                log.warning("worker.waiting_for_database", worker_id=str(self.id), error=str(error))
            if self._stopping.is_set():
                return

    def _start(self, execution: Execution, start_by: float) -> None:
        self._give_up_earlier_run(execution)
        if self._stopping.is_set():
            coroutine = self._runner.give_back(execution, "the worker is stopping")
        else:
            coroutine = self._runner.execute_task(execution, start_by=start_by, worker_stops=self._stopping.is_set)
        try:
            self._tasks.start_task(execution.id, coroutine)
        except ServiceClosedError:
            log.warning("worker.claim_dropped", execution_id=str(execution.id))

    def _give_up_earlier_run(self, execution: Execution) -> None:
        """Whatever task of it is still here has lost its lease, because this claim raised the epoch."""
        if self._tasks.get_task(execution.id) is not None:
            if run := self._runner.runs.get(execution.id):
                run.lose()
            self._tasks.clear_task(execution.id)

    # Staying alive

    async def _register(self) -> None:
        await self._workers.register(
            self.id,
            list(self._kinds),
            concurrency=self._settings.worker_concurrency,
            timeout_seconds=self._settings.worker_timeout_seconds,
        )
        self.heard_at = time.monotonic()
        self.eager.take_for(self.id)
        log.info("worker.registered", worker_id=str(self.id), kinds=list(self._kinds))

    async def _keep_alive(self) -> None:
        """Heartbeats at a fixed rate, and soon after one that failed; when the worker finds itself declared dead, it
        starts over under a new id."""
        interval = self._settings.heartbeat_interval_seconds
        while True:
            started, pause = time.monotonic(), interval
            try:
                answer = await self._workers.heartbeat(self.id)
                if answer is None:
                    await self._start_over()
                else:
                    self.heard_at = time.monotonic()
                    self._workers.db.clock.synchronize(answer, started)
            except DatabaseError as error:
                log.warning("worker.heartbeat_failed", worker_id=str(self.id), error=str(error))
                pause = min(interval, RETRY_SECONDS)
            elapsed = time.monotonic() - started
            await asyncio.sleep(max(0.05, pause - elapsed))

    async def _start_over(self) -> None:
        log.warning("worker.was_declared_dead", worker_id=str(self.id), running=len(self._runner.runs))
        for run in list(self._runner.runs.values()):
            run.lose()
        self.eager.take_for(None)
        self.id = new_id()
        await self._register()

    # Looking after what runs

    async def _review_runs(self) -> None:
        while True:
            await is_set_within(self._control, REVIEW_SECONDS)
            self._control.clear()
            try:
                await self._review()
            except DatabaseError as error:
                log.warning("worker.review_failed", worker_id=str(self.id), error=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _review(self) -> None:
        """Tell every run how its execution stands; give up the slots of runs that were lost and do not end."""
        runs = dict(self._runner.runs)
        if not runs:
            return
        current = {one.id: one for one in await self._state_manager.repository.get_many(list(runs))}
        for execution_id, run in runs.items():
            if run.execution.version <= getattr(current.get(execution_id), "version", run.execution.version):
                run.observe(current.get(execution_id))
        for execution_id, run in runs.items():
            if run.lease.is_lost:
                self._tasks.clear_task(execution_id)

    # Stopping

    async def _drain(self, claimer: asyncio.Task[None]) -> None:
        log.info("worker.draining", worker_id=str(self.id), running=len(self._tasks))
        await self._unless_away(claimer)
        if not claimer.cancelled():
            claimer.result()
        await self._unless_away(self.eager.close())
        for run in list(self._runner.runs.values()):
            run.hand_over()
        # In full, also while PostgreSQL is away: what has ended and is not recorded would be an unknown outcome.
        if not await self._tasks.wait_idle(self._settings.drain_timeout_seconds):
            for run in list(self._runner.runs.values()):
                run.drain()
            await self._unless_away(self._tasks.wait_idle(STOP_SECONDS))

    async def _end(self, claimer: asyncio.Task[None], background: list[asyncio.Task[Any]]) -> None:
        # Not cancelled, unless PostgreSQL is away: nobody else knows what a claim under way has taken. What it still
        # brings is given back.
        self.stop()
        await self._unless_away(claimer)
        await self._unless_away(self.eager.close())
        await _cancel(background)
        if self._finds_it_away or not await self._unless_away(self._tasks.stop(STOP_SECONDS)):
            for run in list(self._runner.runs.values()):
                run.is_left = True
            await self._tasks.stop(STOP_SECONDS)
        if not await self._unless_away(self._sign_off()):
            log.warning("worker.not_signed_off", worker_id=str(self.id), error="PostgreSQL is away")

    async def _unless_away(self, work: Coroutine[Any, Any, object] | asyncio.Task[None]) -> bool:
        """Await it while PostgreSQL is there; where it is not, cut it off, like everything afterwards (False)."""
        task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work, name="worker stop")
        if self._finds_it_away:
            await asyncio.wait([task], timeout=MOMENT_SECONDS)
        else:
            self._finds_it_away = not await self._workers.db.presence.outlasts(task)
        if task.done():
            return True
        await _cancel([task])
        return False

    async def _sign_off(self) -> None:
        try:
            await self._workers.retire(self.id)
        except (DatabaseError, ServiceClosedError) as error:
            log.warning("worker.not_signed_off", worker_id=str(self.id), error=str(error))

    def _claimable_kinds(self) -> dict[str, bool]:
        registry = self._runner.registry
        kinds = self._settings.worker_kinds or registry.kinds
        return {kind: registry.get(kind).idempotent for kind in kinds}


async def _let_runs_go_first() -> None:
    """Two rounds of the event loop: a run that ends at once, and the lane that is given its end."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def _first_end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Until the first of the tasks ends; an error of it is raised. (Without one, only the claimer and the wait for a
    stop end.)"""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
