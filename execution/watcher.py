"""Watching executions: one reader per process, however many watch, and nothing asked while nothing happens.

Watchers read the log, each execution's from the version they have on. Versions have no gaps, so a watcher can break off
anywhere and go on from its last version, in this process or in another one. That is also why nothing is kept for one
who is slow: what its buffer has no room for is read again when it has some.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog

from execution.buffer import Buffer
from execution.domain.execution import Execution
from execution.domain.history import HistoryItem
from execution.errors import DatabaseError, ExecutionNotFoundError, ServiceClosedError
from execution.repository.repository import ExecutionRepository
from execution.repository.wakeups import Topic
from execution.waiting import is_set_within

log = structlog.get_logger(__name__)

READ_AT_ONCE = 200
"""Most entries of one execution that one read brings."""
READ_IN_ALL = 2_000
"""Most entries that one read brings of all executions (but one of each): what a read may take of memory and time."""
SHORTEST_PAUSE = 0.001
"""Seconds; timers are no finer, and would make more of less."""
LONGEST_PAUSE = 0.02
"""Most seconds between two reads that other processes' wake-ups cause. They say that something happened, not where, so
each reads for all watchers: a pause as long as the last read keeps that to half of the time, and one watcher prompt."""
RETRY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class WatchLimits:
    """What is kept for one watcher that does not come to taking it."""

    items: int = 200
    size: int = 65_536
    """Bytes, as JSON."""


class Watch:
    """One watcher: how far it has read, and what it has not taken yet.

    It ends with the entry that completes its execution, if that is not older than the version the watch began at.
    """

    def __init__(self, watcher: LogWatcher, execution_id: UUID, after_version: int, known_version: int) -> None:
        self.execution_id = execution_id
        self.version = after_version
        """The last entry it was given; what it has taken may lie behind."""
        self.known_version = known_version
        """There are at least so many entries."""
        self.has_ended = False
        """Has the last entry been taken?"""
        self.is_hungry = True
        """Has it room for more?"""
        self._watcher = watcher
        self._ends_from = known_version
        limits = watcher.limits
        self._buffer: Buffer[HistoryItem] = Buffer(_size, max_items=limits.items, max_bytes=limits.size)

    async def take(self, within: float | None = None) -> list[HistoryItem]:
        """The next entries, in order, as soon as there are some; none when the time (seconds) is over first.

        Raises:
            ServiceClosedError: the service stopped.
            ExecutionNotFoundError: the execution was deleted before all of it was read.
        """
        await self._buffer.wait(within)
        items = self._buffer.take()
        if not self.is_hungry:
            self.is_hungry = True
            self._watcher.read_soon(self.execution_id)
        for number, item in enumerate(items):
            if item.is_final and item.version >= self._ends_from:
                self.has_ended = True
                return items[: number + 1]
        return items

    def offer(self, item: HistoryItem) -> None:
        """Take an entry of the log if it is the next one and there is room.

        One that lies further ahead comes from a read that was under way for others when this watcher joined, or it had
        no room for what came before: what lies between is brought by the next read.
        """
        self.known_version = max(self.known_version, item.version)
        if item.version != self.version + 1 or not self.is_hungry:
            return
        if self._buffer.put(item):
            self.version = item.version
        else:
            self.is_hungry = False

    def close(self, error: Exception) -> None:
        """Nothing more will come, because of that."""
        self._buffer.close(error)


class LogWatcher:
    """Serves every watcher of this process from one reading loop."""

    def __init__(
        self, repository: ExecutionRepository, *, poll_interval: float, limits: WatchLimits | None = None
    ) -> None:
        self.limits = limits or WatchLimits()
        self._repository = repository
        self._poll_interval = poll_interval
        self._watches: dict[UUID, set[Watch]] = {}
        self._dirty: set[UUID] = set()
        self._all_dirty = False
        self._next_read_of_all = 0.0
        self._woken = asyncio.Event()
        self._closed = False

    def noted(self, execution: Execution) -> None:
        """This process has just written that execution."""
        if self._watches and execution.id in self._watches:
            self.read_soon(execution.id)

    @contextmanager
    def watching(self, execution_id: UUID, after_version: int = 0, *, known_version: int = 0) -> Iterator[Watch]:
        """The execution's log after a version, and then whatever is appended.

        Args:
            known_version: the version the execution is known to have; an end before it is not the end of the watch.

        Raises:
            ServiceClosedError: the service has stopped.
        """
        if self._closed:
            raise ServiceClosedError("The watcher")
        watch = Watch(self, execution_id, after_version, known_version)
        self._watches.setdefault(execution_id, set()).add(watch)
        self.read_soon(execution_id)
        try:
            yield watch
        finally:
            watches = self._watches[execution_id]
            watches.discard(watch)
            if not watches:
                del self._watches[execution_id]

    def read_soon(self, execution_id: UUID) -> None:
        """There may be something to read of that execution."""
        self._dirty.add(execution_id)
        self._woken.set()

    async def run(self) -> None:
        """Read for the watchers until cancelled: then they are told. After a fault they wait until it runs again."""
        self._closed, self._all_dirty = False, True
        self._woken.set()
        unsubscribe = self._repository.db.wakeups.subscribe(Topic.LOG, self._log_grew, from_others_only=True)
        try:
            while True:
                await self._wait()
                try:
                    await self._read()
                except DatabaseError as error:
                    log.warning("watcher.waiting_for_database", error=str(error))
                    self._all_dirty = True
                    await asyncio.sleep(RETRY_SECONDS)
        except asyncio.CancelledError:
            self._close()
            raise
        finally:
            unsubscribe()

    def _log_grew(self) -> None:
        if self._watches:
            self._all_dirty = True
            self._woken.set()

    async def _wait(self) -> None:
        """Until there is something to read. Without watchers there never is."""
        if not await is_set_within(self._woken, self._poll_interval if self._watches else None):
            self._all_dirty = True
        self._woken.clear()
        if self._all_dirty:
            pause = self._next_read_of_all - asyncio.get_running_loop().time()
            if not self._dirty and pause > SHORTEST_PAUSE:
                await asyncio.sleep(pause)

    async def _read(self) -> None:
        """Bring every watcher that may have something up to date."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await self._read_wanted()
        finally:
            self._next_read_of_all = clock() + min(clock() - began, LONGEST_PAUSE)

    async def _read_wanted(self) -> None:
        wanted = self._watches.keys() if self._all_dirty else self._dirty & self._watches.keys()
        hungry = {one: watches for one in wanted if (watches := self._hungry(one))}
        self._all_dirty, self._dirty = False, set()
        if hungry:
            after = {one: min(watch.version for watch in watches) for one, watches in hungry.items()}
            known = {one: max(watch.known_version for watch in watches) for one, watches in hungry.items()}
            limit_each = max(1, min(READ_AT_ONCE, READ_IN_ALL // len(after)))
            counts = self._offer(await self._repository.get_histories(after, limit_each))
            for one in hungry.keys() & self._watches.keys():
                self._read_on(one, is_full=counts[one] == limit_each)
                if not counts[one] and after[one] < known[one]:
                    self._vanished(one)

    def _hungry(self, execution_id: UUID) -> list[Watch]:
        return [watch for watch in self._watches[execution_id] if watch.is_hungry]

    def _offer(self, items: Iterable[HistoryItem]) -> Counter[UUID]:
        """Give what was read to its watchers; how many entries there were of each execution."""
        counts: Counter[UUID] = Counter()
        for item in items:
            counts[item.execution_id] += 1
            for watch in self._watches.get(item.execution_id, ()):
                watch.offer(item)
        return counts

    def _read_on(self, execution_id: UUID, *, is_full: bool) -> None:
        """Where there may be more, it is read in the next round: nobody waits until the longest log has been read."""
        if is_full and self._hungry(execution_id):
            self.read_soon(execution_id)

    def _vanished(self, execution_id: UUID) -> None:
        """There was more of its log than can be read now: it has been deleted."""
        for watch in self._watches[execution_id]:
            watch.close(ExecutionNotFoundError(execution_id))

    def _close(self) -> None:
        self._closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.close(ServiceClosedError("The watcher"))


def _size(item: HistoryItem) -> int:
    return len(item.encoded)
