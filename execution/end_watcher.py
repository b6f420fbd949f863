"""Waiting for ends: one question per process, however many wait, and none while nothing ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from execution.domain.creation import LONGEST_BEGINNING
from execution.domain.execution import Execution
from execution.errors import DatabaseError, ServiceClosedError
from execution.repository.wakeups import Topic
from execution.state_manager import ExecutionStateManager

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 0.02
"""Most seconds between two questions that other processes' wake-ups cause: they say that something ended, not what."""
SHORTEST_PAUSE = 0.001
"""Seconds; timers are no finer."""
RETRY_SECONDS = 1.0
MOST_REMEMBERED = 2_000
"""New executions of this process that are known not to have ended: as many as may soon be waited for."""

End = asyncio.Future[Execution]


class EndWatcher:
    """Tells whoever waits in this process that an execution has ended, wherever that happened."""

    def __init__(self, state_manager: ExecutionStateManager, *, poll_interval: float) -> None:
        self._repository = state_manager.repository
        self._poll_interval = poll_interval
        self._waiting: dict[UUID, set[End]] = {}
        self._woken = asyncio.Event()
        self._rests_until = 0.0
        """On the loop's clock."""
        self._new: dict[UUID, tuple[str, int]] = {}
        self._ends_elsewhere = 0
        self._closed = False
        state_manager.listen(self.noted)

    def noted(self, execution: Execution) -> None:
        """This process has just written that execution."""
        if not execution.is_terminal:
            if execution.version <= LONGEST_BEGINNING:
                self._remember(execution)
            return
        self._new.pop(execution.id, None)
        if self._waiting:
            _tell(self._waiting.get(execution.id, ()), execution)

    def has_just_begun(self, execution_id: UUID, tenant_id: str) -> bool:
        """Is it new, made by this process for that tenant, and has nothing been ended elsewhere since?

        Then whoever waits need not look at it first: its end will be told, or found by the next poll.
        """
        return self._new.get(execution_id) == (tenant_id, self._ends_elsewhere)

    @contextmanager
    def awaiting(self, execution_id: UUID) -> Iterator[End]:
        """What tells the end of an execution. Read the execution inside the block: what ends it later is told.

        Raises:
            ServiceClosedError: the service has stopped; the future raises it where it stops while somebody waits.
        """
        if self._closed:
            raise ServiceClosedError("The watcher")
        end: End = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(execution_id, set()).add(end)
        try:
            yield end
        finally:
            if not end.cancel() and not end.cancelled():
                end.exception()  # it may not have come to waiting for it
            waiting = self._waiting[execution_id]
            waiting.discard(end)
            if not waiting:
                del self._waiting[execution_id]

    async def run(self) -> None:
        """Ask for those who wait, until cancelled: then they are told. After a fault they wait until it runs again."""
        self._closed = False
        wakeups = self._repository.db.wakeups
        unsubscribe = wakeups.subscribe(Topic.ENDED, self._ended_elsewhere, from_others_only=True)
        polls = asyncio.create_task(self._poll(), name="end watcher polls")
        try:
            while True:
                await self._ask()
                await self._rest()
        except asyncio.CancelledError:
            self._close()
            raise
        finally:
            unsubscribe()
            polls.cancel()
            await asyncio.wait([polls])

    async def _rest(self) -> None:
        """Until there is a reason to ask again, and not at once after a question that others had caused."""
        await self._woken.wait()
        pause = self._rests_until - asyncio.get_running_loop().time()
        if pause > SHORTEST_PAUSE:
            await asyncio.sleep(pause)
        self._woken.clear()

    async def _poll(self) -> None:
        # By a clock of its own: a timer for each wait is one to be stopped between the wake-up and the question.
        while True:
            await asyncio.sleep(self._poll_interval)
            self._woken.set()

    def _ended_elsewhere(self) -> None:
        self._ends_elsewhere += 1
        self._woken.set()

    def _remember(self, execution: Execution) -> None:
        if len(self._new) >= MOST_REMEMBERED:
            del self._new[next(iter(self._new))]
        self._new[execution.id] = (execution.tenant_id, self._ends_elsewhere)

    async def _ask(self) -> None:
        """Tell what has ended."""
        if not self._waiting:
            return
        clock = asyncio.get_running_loop().time
        began = clock()
        # Who has begun to wait since may wait for a later end: the answer may be from before a retry.
        asking = {execution_id: tuple(ends) for execution_id, ends in self._waiting.items()}
        try:
            for execution in await self._repository.get_ended(list(asking)):
                self._new.pop(execution.id, None)
                _tell(asking[execution.id], execution)
        except DatabaseError as error:
            log.warning("end_watcher.waiting_for_database", error=str(error))
            self._rests_until = clock() + RETRY_SECONDS
        else:
            ended = clock()
            self._rests_until = ended + min(ended - began, LONGEST_PAUSE)

    def _close(self) -> None:
        self._closed = True
        for waiting in self._waiting.values():
            for end in waiting:
                if not end.done():
                    end.set_exception(ServiceClosedError("The watcher"))


def _tell(ends: Iterable[End], execution: Execution) -> None:
    for end in ends:
        if not end.done():
            end.set_result(execution)
