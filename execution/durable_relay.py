"""The relay to other services: publishes the whole log, from a cursor that outlives every process.

The cursor is a snapshot (`repository/log_position.py`), so it says of every transaction whether its events have been
published, also of those that began before others that were. Nothing waits for a transaction that stays open, and what
commits late is not missed.

Events go out in the order of each execution, at least once. What was published and is not behind the cursor yet is
published again after a crash, or by a second relay that takes over while the first one still writes: repeats, which
consumers drop by version. They are repeats and never a change of order, because each relay goes on only when everything
before has been acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

import structlog

from events.bus import EventBusError
from execution.errors import DatabaseError
from execution.event_emitter import ExecutionEventEmitter
from execution.relay_cursor import CursorKeeper, CursorLostError
from execution.relay_pace import RelayPace
from execution.repository.event_log import EventLog, LogBatch
from execution.repository.log_position import LogPosition
from execution.repository.relay_cursors import BEGINNING, Hold, RelayCursorStore
from execution.repository.wakeups import Wakeups
from execution.shielded import to_its_end
from execution.waiting import is_set_within

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.1, 5.0
"""Seconds until the bus is tried again; they double."""
DRAIN_SECONDS = 5.0
"""What a relay that is told to stop takes at most to publish what is there."""
LATE_SECONDS = 1.0
"""What a batch that is under way then gets to end; after that it is broken off, and the next relay repeats it."""
BATCHES_BEHIND = 2
"""How far the cursor may be behind: with the one that is being published, what a death repeats. With fewer, publishing
would wait for each write of the cursor."""


@dataclass
class RelayState:
    """How a relay is doing, for whoever looks after it."""

    is_active: bool = False
    """Does it hold the lease?"""
    published: int = 0
    """Events that the bus has taken."""
    repeated: int = 0
    """Events that were published once more because the bus had failed under them."""
    failures: int = 0
    """Failures of the bus; each has cost it its connection."""
    problem: str | None = None
    """What keeps it from publishing."""
    failing_since: float | None = None
    """Since when, on the monotonic clock."""


class DurableRelay:
    """Publishes everything in the log while it holds the lease of its cursor, and waits for the lease otherwise.

    Args:
        name: of the cursor; a cursor for each place the log is published to.
        most_per_second: events; what is beyond that waits in the log. None: as fast as it can.
        waited: see `RelayPace`; None: it does not stand back.
        start: where a cursor begins that is not there yet; None: after what is visible then.
    """

    def __init__(
        self,
        event_log: EventLog,
        emitter: ExecutionEventEmitter,
        cursors: RelayCursorStore,
        wakeups: Wakeups,
        *,
        name: str,
        poll_interval: float,
        lease_seconds: float,
        batch_limit: int,
        most_per_second: int | None = None,
        waited: Callable[[], float] | None = None,
        start: LogPosition | None = BEGINNING,
    ) -> None:
        self._log = event_log
        self._emitter = emitter
        self._cursors = cursors
        self._wakeups = wakeups
        self._poll_interval = poll_interval
        self._lease_seconds = lease_seconds
        self._batch_limit = min(batch_limit, most_per_second or batch_limit)
        self._pace = RelayPace(most_per_second, waited)
        self._start = start
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._drained_by = 0.0
        self.name = name
        self.owner = f"{socket.gethostname()} {os.getpid()} {uuid4().hex[:8]}"
        self.ready = asyncio.Event()
        """It has asked for the lease, and had an answer."""
        self.state = RelayState()

    def stop(self) -> None:
        """Let `run` end once everything that is visible now has been published, or after some seconds."""
        self._drained_by = time.monotonic() + DRAIN_SECONDS
        self._stopping.set()
        self._woken.set()

    async def finish(self) -> None:
        """Stop, and return once that is done."""
        self.stop()
        await is_set_within(self._stopped, DRAIN_SECONDS)

    async def run_until_cancelled(self) -> None:
        """As `run`, but a relay that was stopped does not end: for whoever takes an end for a fault."""
        await self.run()
        await asyncio.Event().wait()

    async def run(self) -> None:
        """Relay until stopped or cancelled; whatever PostgreSQL and the brokers do, a stop ends it in time."""
        unsubscribe = self._wakeups.follow(self._woken.set)
        relaying = asyncio.create_task(self._relay(), name="relay")
        late = asyncio.create_task(self._out_of_time(), name="relay deadline")
        try:
            await asyncio.wait([relaying, late], return_when=asyncio.FIRST_COMPLETED)
        finally:
            unsubscribe()
            try:
                await to_its_end(_cancelled(relaying, late))
            finally:
                self._stopped.set()
        if not relaying.cancelled():
            relaying.result()

    async def _out_of_time(self) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._drained_by + LATE_SECONDS - time.monotonic())

    async def _relay(self) -> None:
        while not self._stopping.is_set():
            hold = await self._take()
            self.ready.set()
            if hold is None:
                await is_set_within(self._stopping, self._lease_seconds / 2)
            else:
                await self._publish_from(hold)

    async def _take(self) -> Hold | None:
        try:
            hold = await self._cursors.take(self.name, self.owner, self._lease_seconds, self._start)
            if hold is None:
                return None
            head = await self._log.head()
        except DatabaseError as error:
            log.warning("relay.waiting_for_database", error=str(error))
            return None
        if hold.position.xmax > head.xmax:
            self._fails(f"the cursor {self.name!r} is at a position that this log has not come to: another database's")
            await self._keeper(hold).release()
            return None
        return hold

    def _keeper(self, hold: Hold) -> CursorKeeper:
        most_behind = BATCHES_BEHIND * self._batch_limit
        return CursorKeeper(self._cursors, hold, lease_seconds=self._lease_seconds, most_behind=most_behind)

    async def _publish_from(self, hold: Hold) -> None:
        """Publish until the lease is lost or it is time to stop."""
        log.info("relay.began", cursor=hold.name, epoch=hold.epoch, position=str(hold.position))
        keeper = self._keeper(hold)
        keeping = asyncio.create_task(keeper.run(), name="relay cursor")
        following = asyncio.create_task(self._follow(keeper), name="relay follow")
        self.state.is_active = True
        try:
            await asyncio.wait([keeping, following], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.state.is_active = False
            await to_its_end(_end(keeper, keeping, following))
        for task in (keeping, following):
            if not task.cancelled():
                with suppress(CursorLostError):
                    task.result()

    async def _follow(self, keeper: CursorKeeper) -> None:
        """Publish batch by batch, and read the next one meanwhile; never more than one ahead."""
        reading = self._begin_to_read(keeper.position)
        is_last_look = False
        try:
            while True:
                began = time.monotonic()
                batch = await reading
                if batch is None:
                    return
                if not batch.is_last:
                    reading = self._begin_to_read(batch.position)
                await keeper.room()
                if not await self._publish(batch):
                    return
                keeper.move(batch.position, len(batch.events))
                if is_last_look and batch.is_last:
                    return
                await self._rest(batch, time.monotonic() - began)
                if batch.is_last:
                    is_last_look = self._stopping.is_set()
                    reading = self._begin_to_read(batch.position)
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    def _begin_to_read(self, position: LogPosition) -> asyncio.Task[LogBatch | None]:
        return asyncio.create_task(self._read(position), name="relay read")

    async def _read(self, position: LogPosition) -> LogBatch | None:
        """What is next, however often that takes; None: it is time to stop, and PostgreSQL is away."""
        while True:
            try:
                return await self._log.read(position, limit=self._batch_limit)
            except DatabaseError as error:
                log.warning("relay.waiting_for_database", error=str(error))
                if await is_set_within(self._stopping, RETRY_SECONDS):
                    return None

    async def _publish(self, batch: LogBatch) -> bool:
        """Publish all of it, however often that takes; False: it is time to stop, and it was not all published."""
        back_off = FIRST_BACK_OFF
        while batch.events:
            if self._stopping.is_set() and (self.state.problem or time.monotonic() > self._drained_by):
                return False
            try:
                await self._emitter.emit_all(batch.events)
            except EventBusError as error:
                self._fails(str(error))
                self.state.failures += 1
                self.state.repeated += len(batch.events)
                await is_set_within(self._stopping, random.uniform(back_off / 2, back_off))
                back_off = min(2 * back_off, LONGEST_BACK_OFF)
            else:
                self.state.published += len(batch.events)
                self._succeeds()
                break
        return True

    async def _rest(self, batch: LogBatch, took: float) -> None:
        if batch.is_last and not batch.events:
            await is_set_within(self._woken, self._poll_interval)
            self._woken.clear()
            return
        rest = self._pace.rest_after(batch, took)
        if rest > 0:
            await is_set_within(self._stopping, rest)

    def _fails(self, problem: str) -> None:
        log.warning("relay.cannot_publish", problem=problem)
        self.state.problem = problem
        self.state.failing_since = self.state.failing_since or time.monotonic()

    def _succeeds(self) -> None:
        if self.state.failing_since is not None:
            log.info("relay.publishes_again", after_seconds=round(time.monotonic() - self.state.failing_since, 1))
        self.state.problem = self.state.failing_since = None


async def _end(keeper: CursorKeeper, keeping: asyncio.Task[None], following: asyncio.Task[None]) -> None:
    await _cancelled(following, keeping)
    await keeper.release()


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
