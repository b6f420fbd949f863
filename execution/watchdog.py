"""The loop-lag watchdog: says so when a handler blocks the event loop, and where it stands."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback

import structlog

log = structlog.get_logger(__name__)


class LoopWatchdog:
    """Watches one event loop from a thread of its own, which still runs when the loop does not.

    Args:
        threshold: seconds of delay that are worth a warning.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._beat = time.monotonic()
        self._stopped = threading.Event()
        self._loop_thread = 0
        self.last_lag = 0.0
        """Seconds the loop was last found to be late; 0 while it is on time."""

    async def run(self) -> None:
        """Watch until cancelled."""
        self._loop_thread = threading.get_ident()
        watcher = threading.Thread(target=self._watch, name="loop watchdog", daemon=True)
        self._beat = time.monotonic()
        watcher.start()
        try:
            while True:
                await asyncio.sleep(self._threshold / 4)
                self._beat = time.monotonic()
        finally:
            self._stopped.set()

    def _watch(self) -> None:
        warned_beat = 0.0
        while not self._stopped.wait(self._threshold / 2):
            beat = self._beat
            lag = time.monotonic() - beat - self._threshold / 4
            self.last_lag = lag if lag > self._threshold else 0.0
            if self.last_lag and beat != warned_beat:
                warned_beat = beat
                log.warning("worker.loop_blocked", seconds=round(lag, 3), stack=self._stack())

    def _stack(self) -> str:
        """Where the loop's thread stands: the innermost calls, which name the handler that blocks."""
        frame = sys._current_frames().get(self._loop_thread)
        return "".join(traceback.format_stack(frame, limit=6)) if frame else "unknown"
