"""A look at what a relay has not published yet, and at what holds the barrier back, for whoever asks often."""

from __future__ import annotations

import asyncio
import time

import structlog

from execution.errors import DatabaseError
from execution.repository.relay_cursors import Barrier, CursorFacts, RelayCursorStore, RelayLag

log = structlog.get_logger(__name__)

FRESH_SECONDS = 2.0
MOST_COUNTED = 100_000


class RelaySurvey:
    """A cursor as it was seen last, whichever process moves it. Everything is None until it was seen, and where it
    could not be seen.
    """

    def __init__(self, cursors: RelayCursorStore, name: str) -> None:
        self._cursors = cursors
        self._name = name
        self._look_again_at = 0.0
        self._looking = asyncio.Lock()
        self.cursor: CursorFacts | None = None
        self.lag: RelayLag | None = None
        self.barrier: Barrier | None = None
        """The oldest transaction under way, in whichever database of the server; None, too, if there is none."""

    async def refresh(self, within: float) -> None:
        """Look again unless the last look is fresh. Who finds somebody looking leaves it at what was seen last."""
        if self._looking.locked() or time.monotonic() < self._look_again_at:
            return
        async with self._looking:
            self.cursor = self.lag = self.barrier = None
            try:
                async with asyncio.timeout(within):
                    await self._look()
            except (DatabaseError, TimeoutError) as error:
                log.warning("metrics.relay_not_seen", error=f"{type(error).__name__}: {error}")
            self._look_again_at = time.monotonic() + FRESH_SECONDS

    async def _look(self) -> None:
        self.barrier = await self._cursors.barrier()
        cursor = await self._cursors.read(self._name)
        if cursor is not None:
            self.lag = await self._cursors.lag(cursor.position, MOST_COUNTED)
        self.cursor = cursor
