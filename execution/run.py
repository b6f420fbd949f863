"""One run of one handler: what was asked of it meanwhile, and the context its handler sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from execution.domain.commands import ReachPausePoint
from execution.domain.execution import Execution, JsonObject
from execution.domain.outcome import HandedOver, StopRequested
from execution.domain.state import ExecutionState
from execution.lease import Lease
from execution.progress_tracker import ProgressReporter


class Run:
    """What the worker knows of a handler that is running: its lease, and why it was asked to stop, if it was."""

    __slots__ = (
        "_leaves_at_pause",
        "_resumed",
        "_timer",
        "cancel_requested",
        "draining",
        "invoking",
        "is_left",
        "lease",
        "reporter",
        "stop_handler",
        "timed_out",
        "worker_stops",
    )

    def __init__(self, lease: Lease, reporter: ProgressReporter, worker_stops: Callable[[], bool]) -> None:
        self.lease = lease
        self.reporter = reporter
        self.worker_stops = worker_stops
        """Does the worker take nothing new any more? Then a handler that can be gone on with elsewhere should leave."""
        self.cancel_requested = False
        self.timed_out = False
        self.draining = False
        self.invoking = False
        self.is_left = False
        """Does nobody wait any more until its end is recorded? A rescuer sees to it, unless the append gets through."""
        self.stop_handler: Callable[[], object] | None = None
        """How the running handler is told to stop: a task is cancelled, a child process is signalled, a thread asks."""
        self._resumed: asyncio.Event | None = None
        """Only while it waits, paused: what ends that."""
        self._leaves_at_pause = False
        """Does it stand at a pause point that it may leave to another worker?"""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def execution(self) -> Execution:
        """The execution as this worker knows it."""
        return self.lease.execution

    @property
    def stop_requested(self) -> bool:
        """Was it asked to stop, for whatever reason?"""
        return self.cancel_requested or self.timed_out or self.draining or self.lease.is_lost

    def begin(self) -> None:
        """The handler starts now: it can be stopped, and its time limit runs."""
        self.invoking = True
        if self.execution.deadline is not None:
            self._limit_time()

    def end(self) -> None:
        """The handler has ended: from here on nothing may stop what records how."""
        self.invoking = False
        self._unlimit_time()

    def cancel(self) -> None:
        """Somebody wants it cancelled."""
        self.cancel_requested = True
        self._stop()

    def time_out(self) -> None:
        """Its time limit has passed."""
        self.timed_out = True
        self._stop()

    def hand_over(self) -> None:
        """The worker takes nothing new any more, and would like to be rid of this one without cutting it off."""
        if self._leaves_at_pause:
            self._go_on()

    def drain(self) -> None:
        """The worker stops."""
        self.draining = True
        self._stop()

    def lose(self) -> None:
        """Somebody else decides over the execution now; nothing of this run counts any more."""
        self.lease.is_lost = True
        self._stop()

    def observe(self, current: Execution | None) -> None:
        """React to how the execution stands in the database."""
        self.lease.observe(current)
        if self.lease.is_lost or current is None:
            self.lose()
        elif current.state is ExecutionState.CANCELLING and not self.cancel_requested:
            self.cancel()
        elif current.state is ExecutionState.RUNNING:
            self._go_on()

    async def pause_point(self) -> None:
        """If a pause was requested, record that it happened, and wait until somebody resumes."""
        if not self.execution.pause_requested:
            return
        after = await self.lease.apply(ReachPausePoint())
        if after.state is ExecutionState.PAUSED and not (self._leaves_at_pause and self.worker_stops()):
            self._unlimit_time()  # the limit counts running time; it starts anew with the resume
            await self.resumed()
            self._limit_time()

    async def hand_over_point(self, how_far: str) -> None:
        """A pause point; and if the worker stops, the run ends here as given back.

        Raises:
            HandedOver: another worker is to go on from what is recorded.
        """
        self._leaves_at_pause = True
        try:
            if not self.worker_stops():
                await self.pause_point()
        finally:
            self._leaves_at_pause = False
        if self.worker_stops() and not (self.cancel_requested or self.timed_out or self.lease.is_lost):
            raise HandedOver(f"its worker stops, and another one goes on: {how_far}")

    async def resumed(self) -> None:
        """Wait until it is no longer paused: resumed, or asked to stop."""
        if not self.stop_requested:
            # Not earlier: a review that read RUNNING just before the pause was written would take it for the resume.
            self._resumed = self._resumed or asyncio.Event()
            await self._resumed.wait()

    def _limit_time(self) -> None:
        seconds = self.lease.seconds_left()
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self.time_out)

    def _unlimit_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def _stop(self) -> None:
        self._go_on()
        if self.invoking and self.stop_handler is not None:
            self.stop_handler()


class SaidChecks(Protocol):
    """What finds out what is wrong with a report or a fact, from any thread."""

    def command(self, percentage: float, message: str | None, context: JsonObject | None) -> object: ...

    def fact(self, name: str, data: JsonObject | None) -> object: ...


class RunContext:
    """`TaskContext` for a handler on the event loop."""

    __slots__ = ("_claimed", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._claimed = run.execution

    @property
    def execution_id(self) -> UUID:
        """The execution's id."""
        return self._claimed.id

    @property
    def kind(self) -> str:
        """The kind the handler is registered for."""
        return self._claimed.kind

    @property
    def tenant_id(self) -> str:
        """Whose execution it is."""
        return self._claimed.tenant_id

    @property
    def agent_id(self) -> str | None:
        """The agent it names."""
        return self._claimed.agent_id

    @property
    def task_id(self) -> str | None:
        """The submitter's own name for it."""
        return self._claimed.task_id

    @property
    def attempt(self) -> int:
        """1 for the first run."""
        return self._claimed.attempt

    @property
    def deadline(self) -> datetime | None:
        """When this attempt's time limit ends."""
        return self._run.execution.deadline

    @property
    def trace_context(self) -> str | None:
        """The submitter's `traceparent`."""
        return self._claimed.trace_context

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt."""
        return str(self.execution_id)

    @property
    def execution(self) -> Execution:
        """The whole execution; for the built-in task kinds."""
        return self._run.execution

    @property
    def cancelled(self) -> bool:
        """Was this run asked to stop?"""
        return self._run.stop_requested

    def progress(self, percentage: float, message: str | None = None, context: JsonObject | None = None) -> None:
        """Report progress."""
        self._run.reporter.report(percentage, message, context)

    def record(self, name: str, data: JsonObject | None = None) -> None:
        """Record a fact."""
        self._run.reporter.record(name, data)

    def record_own(self, name: str, data: JsonObject) -> None:
        """Record a fact of a built-in kind, whose data nobody changes."""
        self._run.reporter.record_own(name, data)

    def recorded(self) -> Coroutine[Any, Any, None]:
        """Wait until everything recorded so far is in the log."""
        return self._run.reporter.recorded()

    def raise_if_cancelled(self) -> None:
        """Raise `StopRequested` if the run was asked to stop."""
        if self._run.stop_requested:
            raise StopRequested("the run was asked to stop")

    def pause_point(self) -> Coroutine[Any, Any, None]:
        """Wait here while the execution is paused."""
        return self._run.pause_point()

    def hand_over_point(self, how_far: str) -> Coroutine[Any, Any, None]:
        """A pause point at which the run ends when the worker stops, to be gone on with by another one, as the same
        attempt; for the built-in kinds whose log says how far they are."""
        return self._run.hand_over_point(how_far)


class ThreadContext(RunContext):
    """`TaskContext` for a handler in a thread: what touches the event loop is handed over to it."""

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop, checks: SaidChecks) -> None:
        super().__init__(run)
        self._loop = loop
        self._checks = checks

    def progress(self, percentage: float, message: str | None = None, context: JsonObject | None = None) -> None:
        """Report progress; what is wrong with a report is raised here, in the handler's thread."""
        self._checks.command(percentage, message, context)
        self._loop.call_soon_threadsafe(self._run.reporter.report, percentage, message, context)

    def record(self, name: str, data: JsonObject | None = None) -> None:
        """Record a fact, once there is room for it; what is wrong with it is raised here, in the handler's thread."""
        self._checks.fact(name, data)
        asyncio.run_coroutine_threadsafe(self._run.reporter.record_in_turn(name, data), self._loop).result()

    async def recorded(self) -> None:
        """A blocking handler has no event loop to wait on."""
        raise RuntimeError("a handler in a thread cannot wait for its facts; declare it `async def` to do so")

    async def pause_point(self) -> None:
        """A blocking handler cannot be held; it has no pause points."""
        raise RuntimeError(
            "a handler in a thread has no event loop to wait on; declare it `async def` to have pause points"
        )
