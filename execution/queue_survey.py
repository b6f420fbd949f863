"""A look at the queue for whoever asks often, which costs the database no more than a twentieth of its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

import structlog

from execution.errors import DatabaseError
from execution.repository.database import Database
from execution.repository.queue import QueueDepth, queue_depth

log = structlog.get_logger(__name__)

FRESH_SECONDS = 5.0
LOOKING_SHARE = 0.05
"""Share of the time that goes into looking at most: it takes long where dead entries pile up in the index."""
MOST_COUNTED = 100_000


class QueueSurvey:
    """The queue as it was seen last; `depth` is None until it was seen, and where it could not be seen."""

    def __init__(self, db: Database, kinds: Callable[[], Collection[str]]) -> None:
        self._db = db
        self._kinds = kinds
        self._look_again_at = 0.0
        self._looking = asyncio.Lock()
        self.depth: QueueDepth | None = None

    async def refresh(self, within: float) -> None:
        """Look again unless the last look is fresh. Who finds somebody looking leaves it at what was seen last."""
        if self._looking.locked() or time.monotonic() < self._look_again_at:
            return
        async with self._looking:
            began = time.monotonic()
            self.depth = await self._look(within)
            took = time.monotonic() - began
            self._look_again_at = began + max(FRESH_SECONDS, took / LOOKING_SHARE)

    async def _look(self, within: float) -> QueueDepth | None:
        try:
            async with asyncio.timeout(within):
                return await queue_depth(self._db, self._kinds(), limit=MOST_COUNTED)
        except (DatabaseError, TimeoutError) as error:
            log.warning("metrics.queue_not_seen", error=f"{type(error).__name__}: {error}")
            return None
