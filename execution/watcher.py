"""Watching executions: one reader per process, however many watch, and nothing asked while nothing happens.

Watchers read the log, each execution's from the version they have on. Versions have no gaps, so a watcher can break off
anywhere and go on from its last version, in this process or in another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from execution.domain.execution import Execution
from execution.domain.history import HistoryItem
from execution.errors import DatabaseError, ServiceClosedError
from execution.repository.repository import ExecutionRepository
from execution.repository.wakeups import Topic
from execution.waiting import is_set_within

log = structlog.get_logger(__name__)

READ_AT_ONCE = 200
"""Entries of one execution that one read brings."""
SHORTEST_PAUSE = 0.001
"""Seconds; timers are no finer, and would make more of less."""
LONGEST_PAUSE = 0.02
"""Most seconds between two reads that other processes' wake-ups cause. They say that something happened, not where, so
each reads for all watchers: a pause as long as the last read keeps that to half of the time, and one watcher prompt."""
RETRY_SECONDS = 1.0


class _Watch:
    """One watcher: how far it has read, and what it has not been given yet."""

    def __init__(self, execution_id: UUID, after_version: int) -> None:
        self.execution_id = execution_id
        self.version = after_version
        self.items: asyncio.Queue[HistoryItem | None] = asyncio.Queue()

    def offer(self, item: HistoryItem) -> None:
        """Take an entry of the log if it is the next one.

        One that lies further ahead comes from a read that was under way for others when this watcher joined: what lies
        between is brought by the next read.
        """
        if item.version == self.version + 1:
            self.version = item.version
            self.items.put_nowait(item)

    def close(self) -> None:
        """Nothing more will come."""
        self.items.put_nowait(None)


class LogWatcher:
    """Serves every watcher of this process from one reading loop."""

    def __init__(self, repository: ExecutionRepository, *, poll_interval: float) -> None:
        self._repository = repository
        self._poll_interval = poll_interval
        self._watches: dict[UUID, set[_Watch]] = {}
        self._dirty: set[UUID] = set()
        self._all_dirty = False
        self._next_read_of_all = 0.0
        self._woken = asyncio.Event()
        self._closed = False

    def noted(self, execution: Execution) -> None:
        """This process has just written that execution."""
        if self._watches and execution.id in self._watches:
            self._dirty.add(execution.id)
            self._woken.set()

    async def watch(self, execution_id: UUID, after_version: int = 0) -> AsyncGenerator[HistoryItem, None]:
        """The execution's log after a version, and then whatever is appended, without end.

        Raises:
            ServiceClosedError: the service stopped while somebody watched.
        """
        with self._watching(_Watch(execution_id, after_version)) as watch:
            self._dirty.add(execution_id)
            self._woken.set()
            while True:
                item = await watch.items.get()
                if item is None:
                    raise ServiceClosedError("The watcher")
                yield item

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

    @contextmanager
    def _watching(self, watch: _Watch) -> Iterator[_Watch]:
        if self._closed:
            raise ServiceClosedError("The watcher")
        execution_id = watch.execution_id
        self._watches.setdefault(execution_id, set()).add(watch)
        try:
            yield watch
        finally:
            watches = self._watches[execution_id]
            watches.discard(watch)
            if not watches:
                del self._watches[execution_id]

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
        after = {one: min(watch.version for watch in self._watches[one]) for one in wanted}
        self._all_dirty, self._dirty = False, set()
        while after:
            items = await self._repository.get_histories(after, READ_AT_ONCE)
            counts: dict[UUID, int] = {}
            for item in items:
                counts[item.execution_id] = counts.get(item.execution_id, 0) + 1
                after[item.execution_id] = item.version
                for watch in self._watches.get(item.execution_id, ()):
                    watch.offer(item)
            after = {one: after[one] for one, count in counts.items() if count == READ_AT_ONCE}

    def _close(self) -> None:
        self._closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.close()
