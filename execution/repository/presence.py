"""Is PostgreSQL there? What one part of a process has found out serves the others, which would each wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from execution.waiting import LOOK_SECONDS

REMEMBERED_SECONDS = 5.0
"""How long it counts as away after it let nobody in, unless somebody gets in meanwhile: a stop, whose parts end one
after the other, finds out once."""
MOMENT_SECONDS = 0.2
"""What work gets, to end all the same, on a PostgreSQL that counts as away."""


class Presence:
    """What is known of it; `knock` asks whether it lets somebody in."""

    def __init__(self, knock: Callable[[], Awaitable[bool]]) -> None:
        self._knock = knock
        self._knocking = asyncio.Lock()
        self._away_until = 0.0
        self._silent_until = 0.0

    @property
    def is_away(self) -> bool:
        """Has it let nobody in a short time ago?"""
        return time.monotonic() < self._away_until

    @property
    def is_silent(self) -> bool:
        """Is it away, or does it not answer goodbyes? Then nobody needs to say another one."""
        return self.is_away or time.monotonic() < self._silent_until

    def let_in(self) -> None:
        """It has let somebody in."""
        self._away_until = self._silent_until = 0.0

    def said_nothing(self) -> None:
        """It has not answered a goodbye. That may be the connection's fault, so it does not count as away."""
        self._silent_until = time.monotonic() + REMEMBERED_SECONDS

    async def answers(self) -> bool:
        """Is it there? For whoever waits for something that cannot come while it is away."""
        async with self._knocking:  # those who ask meanwhile wait for this answer: a no is theirs, too
            if not self.is_away and not await self._knock():
                self._away_until = time.monotonic() + REMEMBERED_SECONDS
        return not self.is_away

    async def outlasts(self, work: asyncio.Future[Any]) -> bool:
        """Wait until the work is done (True), or PostgreSQL, asked now and then, is away (False)."""
        while not (await asyncio.wait([work], timeout=MOMENT_SECONDS if self.is_away else LOOK_SECONDS))[0]:
            if not await self.answers():
                return work.done()
        return True
