"""Admission: whether one more execution is taken in, or refused as overload while there is time to say so.

A service that takes in more than its workers can end spends on new work what it owes to the old: offered twice what
they could do, workers ended less than two thirds of that. So, where a longest wait is configured, executions are
refused that would wait longer for a worker (`backlog.py`), kind by kind. One look at the queue answers for all
submissions of the next moment, and nobody looks while nobody submits.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import structlog

from execution.backlog import Backlog
from execution.errors import DatabaseError, OverloadedError
from execution.repository.database import Database
from execution.repository.queue import Head, find_head, follow_head

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.1
SEARCH_SECONDS = 1.0
"""How often the whole queue of a kind is searched for its head, which is followed from where it was in between."""
SEARCHING_SHARE = 0.05
"""Share of the time that goes into searching at most: it takes long where dead entries pile up in the index."""
STALE_SECONDS = 1.0
"""What was seen longer ago than this counts no more: rather one execution too many than a refusal without reason. A
kind that nobody has submitted for so long is forgotten."""


@dataclass
class _Queue:
    """What is known of the executions of one kind that wait. Times are on the monotonic clock."""

    backlog: Backlog
    asked_at: float
    looked_at: float = 0.0
    head: Head | None = None
    search_at: float = 0.0

    def is_full(self, now: float) -> bool:
        return now - self.looked_at < STALE_SECONDS and self.backlog.is_full(now)


class Admission:
    """Admits executions to the queue, kind by kind.

    Args:
        longest_wait: seconds that an execution may have to wait without being refused; None: any time.
    """

    def __init__(self, db: Database, *, longest_wait: float | None) -> None:
        self._db = db
        self._longest_wait = longest_wait
        self._submitted = asyncio.Event()
        self._queues: dict[str, _Queue] = {}

    def check(self, kind: str) -> None:
        """Would an execution of that kind be taken in? It is not counted.

        Raises:
            OverloadedError: it would only wait; submit it again later.
        """
        self._db.lanes.check_room()
        if (queue := self._queues.get(kind)) is not None:
            self._check_wait(kind, queue, time.monotonic())

    def admit(self, kind: str) -> None:
        """Take in an execution of that kind, or refuse it.

        Raises:
            OverloadedError: it would only wait; submit it again later.
        """
        if self._longest_wait is None:
            return  # then there is only room to be looked for, and the append does that
        self._db.lanes.check_room()
        now = time.monotonic()
        queue = self._queues.get(kind)
        if queue is None:
            queue = self._queues[kind] = _Queue(Backlog(self._longest_wait), now)
        self._check_wait(kind, queue, now)
        queue.backlog.admit(now)

    def check_any(self) -> None:
        """Are executions of every kind taken in?

        Raises:
            OverloadedError: those of some kind are refused.
        """
        self._db.lanes.check_room()
        now = time.monotonic()
        for kind, queue in self._queues.items():
            if queue.is_full(now):
                raise _refusal(kind, queue)

    async def run(self) -> None:
        """Look at the queue while somebody submits, until cancelled."""
        while True:
            await self._submitted.wait()
            self._submitted.clear()
            try:
                await self._look()
            except DatabaseError as error:
                log.warning("admission.waiting_for_database", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    def _check_wait(self, kind: str, queue: _Queue, now: float) -> None:
        queue.asked_at = now
        self._submitted.set()
        if queue.is_full(now):
            raise _refusal(kind, queue)

    async def _look(self) -> None:
        forgotten = time.monotonic() - STALE_SECONDS
        self._queues = {kind: queue for kind, queue in self._queues.items() if queue.asked_at > forgotten}
        for kind, queue in list(self._queues.items()):
            await self._look_for_head(kind, queue)
            waited = -queue.head.seconds if queue.head else 0.0
            queue.looked_at = time.monotonic()
            # What its lane has not recorded yet waits, too, and the database does not know of it.
            queue.backlog.see(max(waited, self._db.lanes.oldest_creation_seconds()), queue.looked_at)

    async def _look_for_head(self, kind: str, queue: _Queue) -> None:
        began = time.monotonic()
        if queue.head is not None and began < queue.search_at:
            queue.head = await follow_head(self._db, kind, queue.head)
        if queue.head is None or began >= queue.search_at:
            queue.head = await find_head(self._db, kind)
            ended = time.monotonic()
            queue.search_at = ended + max(SEARCH_SECONDS, (ended - began) / SEARCHING_SHARE)


def _refusal(kind: str, queue: _Queue) -> OverloadedError:
    return OverloadedError(f"executions of kind {kind!r} have waited {queue.backlog.waited:.1f} s for a worker")
