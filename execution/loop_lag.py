"""How late the event loop is: the longest delay of late, for whoever looks now and then."""

from __future__ import annotations

import asyncio

TICK_SECONDS = 0.1
WINDOW_SECONDS = 15.0


class LoopLag:
    """Measures the delay of a timer again and again. Where a loop stands still, `watchdog.py` says."""

    def __init__(self) -> None:
        self._longest = self._longest_before = 0.0

    @property
    def seconds(self) -> float:
        """The longest delay of the last 15 to 30 seconds."""
        return max(self._longest, self._longest_before)

    async def run(self) -> None:
        """Measure until cancelled."""
        clock = asyncio.get_running_loop().time
        window_ends = clock() + WINDOW_SECONDS
        while True:
            due = clock() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._longest = max(self._longest, clock() - due)
            if clock() >= window_ends:
                self._longest_before, self._longest = self._longest, 0.0
                window_ends = clock() + WINDOW_SECONDS
