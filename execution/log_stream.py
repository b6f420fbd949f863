"""Following the log of all executions: one reader per process, however many follow, each from its own position.

A follower that comes back first catches up: it reads for itself, in bounded pieces and a few followers at a time, up to
where the process's reader is. From there on the reader gives it what is new. One that takes too slowly loses its place
and catches up again; nothing is kept for it meanwhile but its position.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property

import structlog

from execution.buffer import Buffer
from execution.domain.events import Event, EventType
from execution.domain.history import HistoryItem
from execution.domain.state import ExecutionState
from execution.errors import DatabaseError, InvalidPositionError, OverloadedError, ServiceClosedError
from execution.repository.event_log import READ_AT_ONCE, EventLog, LogBatch, LoggedEvent
from execution.repository.log_position import LogPosition, StreamPosition
from execution.repository.wakeups import Topic, Wakeups
from execution.waiting import is_set_within

log = structlog.get_logger(__name__)

CATCHING_UP_AT_ONCE = 2
"""Followers that read for themselves at the same time: what they may take of the connections of the process."""
KEPT_ITEMS, KEPT_BYTES = 200, 65_536
"""What is kept for one follower that does not come to taking it."""
LARGEST_READ = READ_AT_ONCE + 20_000
"""More events than any read of ours has brought, with the transaction it ended in."""
LONGEST_PAUSE = 0.02
"""Most seconds between two reads of a busy log: as long as the last read, so that reading takes half of the time."""
JOIN_SECONDS = 10.0
"""What one who joins waits for the reader to come to now."""
RETRY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class LogFilter:
    """Which events to follow; everything given must hold."""

    tenant_id: str
    kind: str | None = None
    agent_id: str | None = None
    task_id: str | None = None
    type: EventType | None = None
    state: ExecutionState | None = None
    """The state that the event brings the execution into."""

    def admits(self, entry: LogEntry) -> bool:
        """Does it hold for the event?"""
        logged, event = entry.logged, entry.event
        return (
            logged.tenant_id == self.tenant_id
            and self.kind in (None, logged.kind)
            and self.agent_id in (None, logged.agent_id)
            and self.task_id in (None, logged.task_id)
            and self.type in (None, event.type)
            and (self.state is None or self.state in (event.data.get("new_state"), event.data.get("state")))
        )


@dataclass(frozen=True)
class LogEntry:
    """One event and where it stands. Made once, however many it is given to."""

    logged: LoggedEvent
    batch: LogBatch

    @cached_property
    def event(self) -> Event:
        """The event itself."""
        return self.logged.event

    @cached_property
    def item(self) -> HistoryItem:
        """The event as an entry of its execution's history."""
        event = self.event
        return HistoryItem(
            execution_id=self.logged.execution_id,
            version=event.version,
            type=event.type.value,
            occurred_at=event.occurred_at,
            actor=event.actor,
            data=event.data,
        )

    @property
    def size(self) -> int:
        """Bytes, as JSON."""
        return len(self.item.encoded)

    @cached_property
    def position(self) -> StreamPosition:
        """Where to go on after it."""
        key = (self.logged.execution_id, self.logged.version)
        return StreamPosition(self.batch.after, self.batch.position, key)


class Follower:
    """One who follows: what it wants, how far it has come, and what it has not taken yet."""

    def __init__(self, stream: LogStream, wanted: LogFilter, position: StreamPosition) -> None:
        self.wanted = wanted
        self.has_expired = False
        """Was there more behind the position it came with than is read again? Then it has begun anew from now."""
        self._stream = stream
        self._position = position
        self._live_from = position.seen
        """Where the process's reader was when it began to give to this follower."""
        self._reached = position.seen
        """Where it was when it last did."""
        self._is_catching_up = False
        self._has_lost_its_place = False
        self._buffer: Buffer[LogEntry] = Buffer(_size, max_items=KEPT_ITEMS, max_bytes=KEPT_BYTES)

    async def take(self, within: float | None = None) -> list[LogEntry]:
        """The next entries as soon as there are some; none when the time (seconds) is over first.

        Raises:
            ServiceClosedError: the service stopped.
        """
        try:
            async with asyncio.timeout(within):
                while not (entries := await self._next()):
                    pass
        except TimeoutError:
            return []
        return entries

    @property
    def position(self) -> StreamPosition:
        """Where to go on after what has been taken."""
        if self._is_catching_up or self._has_lost_its_place or len(self._buffer):
            return self._position
        return StreamPosition(self._reached)

    def begin_live(self, position: LogPosition) -> None:
        """From that position on the reader gives; what lies between is to be caught up with."""
        self._live_from = self._reached = position
        self._has_lost_its_place = False
        self._is_catching_up = self._position != StreamPosition(position)

    def offer(self, entries: Sequence[LogEntry], size: int, position: LogPosition) -> None:
        """Take what the reader has found on its way to a position, if there is room for it and for all before it."""
        self._reached = position
        if entries and not self._has_lost_its_place and not self._buffer.put_all(entries, size):
            self._has_lost_its_place = True

    def close(self, error: Exception) -> None:
        """Nothing more will come, because of that."""
        self._buffer.close(error)

    async def _next(self) -> list[LogEntry]:
        """The next entries; or none, and something has moved on."""
        if self._is_catching_up:
            return await self._catch_up()
        entries = self._buffer.take()
        if entries:
            self._position = entries[-1].position
        elif self._has_lost_its_place:
            self.begin_live(self._stream.position)
        else:
            await self._buffer.wait()
        return entries

    async def _catch_up(self) -> list[LogEntry]:
        """One bounded read towards where the reader began to give."""
        before = self._position
        batch = await self._stream.read_for(self.wanted, before, self._live_from)
        if batch is None:
            return []
        self._position = StreamPosition(batch.position)
        self._is_catching_up = batch.position != self._live_from
        return [
            entry
            for entry in (LogEntry(logged, batch) for logged in batch.events)
            if self.wanted.admits(entry)
            and (before.last is None or (entry.logged.execution_id, entry.logged.version) > before.last)
        ]


class LogStream:
    """Serves every follower of this process from one reading loop, which rests while nobody follows."""

    def __init__(self, event_log: EventLog, wakeups: Wakeups, *, poll_interval: float, replay_limit: int) -> None:
        self._log = event_log
        self._wakeups = wakeups
        self._poll_interval = poll_interval
        self._replay_limit = replay_limit
        self._followers: set[Follower] = set()
        self._position: LogPosition | None = None
        self._woken = asyncio.Event()
        self._joining: list[asyncio.Future[LogPosition]] = []
        self._catching_up = asyncio.Semaphore(CATCHING_UP_AT_ONCE)
        self._closed = False

    @property
    def position(self) -> LogPosition:
        """Where the reader is, as long as somebody follows."""
        assert self._position is not None
        return self._position

    @asynccontextmanager
    async def following(self, wanted: LogFilter, after: StreamPosition | None = None) -> AsyncIterator[Follower]:
        """Follow the log after a position; None: what commits after this is entered, and nothing older.

        Raises:
            InvalidPositionError: this log has not come to that position, or it is not one of its own.
            DatabaseError: PostgreSQL does not answer.
            ServiceClosedError: the service has stopped.
        """
        now = await self._now()
        expired = after is not None and await self._is_expired(after, now)
        follower = Follower(self, wanted, after if after and not expired else StreamPosition(now))
        follower.has_expired = expired
        self._followers.add(follower)
        try:
            follower.begin_live(self.position)
            self._woken.set()
            yield follower
        finally:
            self._followers.discard(follower)

    async def run(self) -> None:
        """Read for the followers until cancelled: then they are told. After a fault they wait until it runs again."""
        self._closed = False
        self._woken.set()
        unsubscribe = self._wakeups.subscribe(Topic.LOG, self._log_grew)
        try:
            while True:
                await is_set_within(self._woken, self._poll_interval if self._followers else None)
                self._woken.clear()
                await asyncio.sleep(await self._serve())
        except asyncio.CancelledError:
            self._close()
            raise
        finally:
            unsubscribe()

    async def read_for(self, wanted: LogFilter, after: StreamPosition, upto: LogPosition) -> LogBatch | None:
        """Events of the follower's tenant after its position; None if that did not work, and some time has passed."""
        try:
            async with self._catching_up:
                if after.read_to is None:
                    return await self._log.read(after.seen, upto, tenant_id=wanted.tenant_id)
                return await self._log.read(after.seen, after.read_to, tenant_id=wanted.tenant_id, limit=LARGEST_READ)
        except DatabaseError as error:
            log.warning("log_stream.waiting_for_database", error=str(error))
            await asyncio.sleep(RETRY_SECONDS)
            return None

    def _log_grew(self) -> None:
        if self._followers:
            self._woken.set()

    async def _now(self) -> LogPosition:
        """Where the log is now: one read of the reader tells all who join before it begins."""
        if self._closed:
            raise ServiceClosedError("The log stream")
        joining: asyncio.Future[LogPosition] = asyncio.get_running_loop().create_future()
        self._joining.append(joining)
        self._woken.set()
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                return await joining
        except TimeoutError:
            raise OverloadedError("the log grows faster than it is read") from None

    async def _is_expired(self, after: StreamPosition, now: LogPosition) -> bool:
        """Is there more to be read again than anybody may ask for?"""
        end = after.read_to or after.seen
        if not after.seen.xmax <= end.xmax <= now.xmax:
            raise InvalidPositionError(after.encode(), "a position that this log has come to")
        async with self._catching_up:
            if end is not after.seen and await self._log.has_more_than(LARGEST_READ, after.seen, end):
                raise InvalidPositionError(after.encode(), "an id that this stream has given")
            return await self._log.has_more_than(self._replay_limit, after.seen, now)

    async def _serve(self) -> float:
        """Read once for those who follow and those who join; how long to leave it at that."""
        joining, self._joining = self._joining, []
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            is_up_to_date = await self._read() if self._followers else await self._begin()
        except DatabaseError as error:
            log.warning("log_stream.waiting_for_database", error=str(error))
            _tell(joining, error)
            self._woken.set()
            return RETRY_SECONDS
        except BaseException:
            self._joining += joining
            raise
        if is_up_to_date:
            _tell(joining, self.position)
        else:
            self._joining += joining
            self._woken.set()
        return min(clock() - began, LONGEST_PAUSE)

    async def _begin(self) -> bool:
        """Where nobody follows, nothing is read: the reader begins anew from now, unless somebody came meanwhile."""
        head = await self._log.head()
        if self._followers:
            return False
        self._position = head
        return True

    async def _read(self) -> bool:
        """Give what is new to those who want it; was that all?"""
        batch = await self._log.read(self.position)
        self._position = batch.position
        everything = [LogEntry(logged, batch) for logged in batch.events]
        for wanted, followers in self._by_filter().items():
            entries = [entry for entry in everything if wanted.admits(entry)]
            size = sum(entry.size for entry in entries)
            for follower in followers:
                follower.offer(entries, size, batch.position)
        return batch.is_last

    def _by_filter(self) -> dict[LogFilter, list[Follower]]:
        """Most want the same: what a filter admits is found once for all of them."""
        groups: dict[LogFilter, list[Follower]] = defaultdict(list)
        for follower in self._followers:
            groups[follower.wanted].append(follower)
        return groups

    def _close(self) -> None:
        self._closed = True
        error = ServiceClosedError("The log stream")
        joining, self._joining = self._joining, []
        _tell(joining, error)
        for follower in self._followers:
            follower.close(error)


def _tell(joining: Iterable[asyncio.Future[LogPosition]], answer: LogPosition | Exception) -> None:
    for one in joining:
        if one.done():
            continue
        if isinstance(answer, Exception):
            one.set_exception(answer)
        else:
            one.set_result(answer)


def _size(entry: LogEntry) -> int:
    return entry.size
