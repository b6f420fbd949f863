"""How a worker finds what it may claim: it searches all that waits, or takes the one execution it was told of.

A wake-up from another process often says which execution it is about. To claim that one costs a third less than a
search, and whoever submits one at a time waits for it. But it finds nothing else, so it takes no search's place: the
next one comes when it would have come, and at once where more was said than one thing, or nothing in particular.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from random import uniform
from uuid import UUID

from execution.domain.execution import Execution
from execution.errors import DatabaseError
from execution.repository.frontier import ClaimFrontier
from execution.repository.workers import WorkerStore

FIRST_POLL_SECONDS = 0.05
"""The first pause after running out of work; it doubles up to the poll interval."""
RETRY_SECONDS = 0.5


class WorkSearch:
    """The searches of one worker, which claims of these kinds (kind to whether it is idempotent)."""

    def __init__(self, workers: WorkerStore, kinds: Mapping[str, bool], *, poll_interval: float) -> None:
        self._workers = workers
        self._kinds = kinds
        self._poll_interval = poll_interval
        self._frontier = ClaimFrontier(workers.db.clock.now)
        self._woken = asyncio.Event()
        self._told: list[UUID | None] = []
        """What it was woken by since it last took note: one execution; None: anything."""
        self._pause = FIRST_POLL_SECONDS
        self._search_at = 0.0
        """When it searches next, whatever it was told, on the monotonic clock."""

    def wake(self) -> None:
        """There may be something to claim."""
        self._told = [None]
        self._woken.set()

    def tell(self, execution_id: UUID) -> None:
        """This execution can be claimed."""
        self._told = [None] if self._told else [execution_id]
        self._woken.set()

    def take_note(self) -> UUID | None:
        """The one execution that is all it was told of; None: it is time for a search."""
        told, self._told = self._told, []
        self._woken.clear()
        return told[0] if len(told) == 1 and time.monotonic() < self._search_at else None

    async def claim(self, worker_id: UUID, limit: int, only: UUID | None) -> list[Execution]:
        """Claim so many of all that is due, or this one only; errors as `WorkerStore.claim`."""
        if only is not None:
            return await self._workers.claim_one(worker_id, self._kinds, only)
        return await self._workers.claim(worker_id, self._kinds, limit, self._frontier)

    async def wait(self, seconds: float) -> None:
        """Wait to be woken, but not longer than this."""
        timer = asyncio.get_running_loop().call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()

    async def rest(self, only: UUID | None, *, found: bool) -> None:
        """Wait for the time of the next search, or to be woken, after a claim (of this one only) that found something,
        or did not."""
        if only is None:
            self._pause = FIRST_POLL_SECONDS if found else self._pause
            self._search_at = time.monotonic() + await self._seconds_to_search()
            self._pause = min(self._pause * 2, self._poll_interval)
        elif not found:  # somebody was faster, or it is not due by PostgreSQL's clock
            self._search_at = min(self._search_at, time.monotonic() + FIRST_POLL_SECONDS)
        await self.wait(self._search_at - time.monotonic())

    async def _seconds_to_search(self) -> float:
        """Until the next due time, or the pause is over, whichever comes first."""
        longest = self._pause * uniform(0.8, 1.0)
        if self._pause >= self._poll_interval / 2:
            # Only when it is about to wait long does it pay to ask when the next one is due.
            due = await self._seconds_until_due()
            longest = longest if due is None else min(longest, max(0.001, due))
        return longest

    async def _seconds_until_due(self) -> float | None:
        try:
            return await self._workers.seconds_until_due(list(self._kinds), self._frontier)
        except DatabaseError:
            return RETRY_SECONDS
