"""Admission: whether one more execution is taken in, or refused as overload while there is time to say so.

A service that takes in more than its workers can end spends on new work what it owes to the old: offered twice what
they could do, workers ended less than two thirds of that. So, where a longest wait is configured, executions of a kind
are refused while the oldest of that kind has waited longer for a worker. One look at the queue answers for all
submissions of the next moment, and nobody looks while nobody submits.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from execution.errors import DatabaseError, OverloadedError
from execution.repository.workers import WorkerStore

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.1
STALE_SECONDS = 1.0
"""What was seen longer ago than this counts no more: rather one execution too many than a refusal without reason."""
LOOKING_SHARE = 0.05
"""Share of the time that goes into looking at most: it takes long where dead entries pile up in the index."""


class Admission:
    """Admits executions to the queue, kind by kind.

    Args:
        longest_wait: seconds that an execution may have waited without new ones being refused; None: any time.
    """

    def __init__(self, workers: WorkerStore, *, longest_wait: float | None) -> None:
        self._workers = workers
        self._longest_wait = longest_wait
        self._submitted = asyncio.Event()
        self._kinds: set[str] = set()
        self._waited: dict[str, float] = {}
        self._looked_at = 0.0

    def check(self, kind: str) -> None:
        """Refuse an execution of that kind if it would only wait.

        Raises:
            OverloadedError: submit it again later.
        """
        self._workers.db.lanes.check_room()
        if self._longest_wait is None:
            return
        self._kinds.add(kind)
        self._submitted.set()
        self._check_wait(kind)

    def check_any(self) -> None:
        """Are executions of every kind taken in?

        Raises:
            OverloadedError: those of some kind are refused.
        """
        self._workers.db.lanes.check_room()
        for kind in self._waited:
            self._check_wait(kind)

    async def run(self) -> None:
        """Look at the queue while somebody submits, until cancelled."""
        while True:
            await self._submitted.wait()
            self._submitted.clear()
            began = time.monotonic()
            try:
                await self._look()
            except DatabaseError as error:
                log.warning("admission.waiting_for_database", error=str(error))
            took = time.monotonic() - began
            await asyncio.sleep(max(LOOK_SECONDS, took / LOOKING_SHARE))

    def _check_wait(self, kind: str) -> None:
        waited, longest = self._waited.get(kind, 0.0), self._longest_wait
        if longest is not None and waited > longest and time.monotonic() - self._looked_at < STALE_SECONDS:
            raise OverloadedError(f"executions of kind {kind!r} have waited {waited:.1f} s for a worker")

    async def _look(self) -> None:
        kinds, self._kinds = self._kinds, set()
        seconds = {kind: await self._workers.seconds_until_due([kind]) for kind in kinds}
        self._waited = {kind: -due for kind, due in seconds.items() if due is not None}
        self._looked_at = time.monotonic()
