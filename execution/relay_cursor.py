"""Keeping a cursor: moving it behind what was published, and holding its lease meanwhile."""

from __future__ import annotations

import asyncio

import structlog

from execution.errors import DatabaseError
from execution.repository.log_position import LogPosition
from execution.repository.relay_cursors import Hold, RelayCursorStore
from execution.waiting import is_set_within

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
PAUSE_SECONDS = 0.02
"""Between two moves, unless the publishing waits for one: what is published meanwhile is covered by the next one."""
RELEASE_SECONDS = 2.0


class CursorLostError(Exception):
    """Another relay has taken the cursor."""

    def __init__(self, name: str, epoch: int) -> None:
        super().__init__(f"the cursor {name!r} is no longer held at epoch {epoch}")


class CursorKeeper:
    """Moves one cursor for as long as it is held. It writes beside the publishing, so that neither waits for the other;
    the cursor is never ahead of what was published, and what lies between the two is what a crash repeats.

    Args:
        most_behind: so many events may lie between the two; beyond that, `room` makes the publishing wait.
    """

    def __init__(self, cursors: RelayCursorStore, hold: Hold, *, lease_seconds: float, most_behind: int) -> None:
        self._cursors = cursors
        self._hold = hold
        self._lease_seconds = lease_seconds
        self._most_behind = most_behind
        self._moved = asyncio.Event()
        self._wanted = asyncio.Event()
        self._wrote = asyncio.Event()
        self._behind = 0
        self.position = hold.position
        """Up to here everything has been published."""

    def move(self, position: LogPosition, events: int) -> None:
        """So many more events have been published, up to there; without any, the lease's next extension keeps it."""
        self.position = position
        self._behind += events
        if events:
            self._moved.set()

    async def room(self) -> None:
        """Return once the cursor is not too far behind; it is then written without a pause."""
        while self._behind > self._most_behind:
            self._wrote.clear()
            self._wanted.set()
            await self._wrote.wait()

    async def run(self) -> None:
        """Move the cursor until cancelled.

        Raises:
            CursorLostError: it is somebody else's.
        """
        while True:
            await is_set_within(self._moved, self._lease_seconds / 3)
            self._moved.clear()
            covered = self._behind
            try:
                is_ours = await self._cursors.advance(self._hold, self.position, self._lease_seconds)
            except DatabaseError as error:
                log.warning("relay.cursor_not_kept", error=str(error))
                self._moved.set()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not is_ours:
                raise CursorLostError(self._hold.name, self._hold.epoch)
            self._behind -= covered
            self._wrote.set()
            await is_set_within(self._wanted, PAUSE_SECONDS)
            self._wanted.clear()

    async def release(self) -> None:
        """Keep the position and give the lease back; whoever waits for it need not wait until it runs out."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._cursors.release(self._hold, self.position)
        except (DatabaseError, TimeoutError) as error:
            log.warning("relay.cursor_not_released", error=f"{type(error).__name__}: {error}")
