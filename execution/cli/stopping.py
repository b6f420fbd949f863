"""How a long-running command ends: by signals, the first of which asks for an orderly stop and the second to hurry.

After the second one it ends in a few seconds whatever it waits for, after a third one on the spot. What an end out of
order leaves open is what a crash leaves open: statements are written whole or not at all, and others rescue what ran.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog

from execution.cli.exit_codes import ExitCode

log = structlog.get_logger(__name__)

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_KILLED = 128
"""What shells add to the number of the signal that ended a program."""
HURRY_SECONDS = 1.0
"""What handlers get to stop, and the worker to record it, after the second signal."""
CLOSE_SECONDS = 4.0
"""What the process gets then to close what it holds open. While PostgreSQL stands still it takes over three seconds:
one part of the process finds out, and the others are told (`repository/presence.py`)."""


class StopSignals:
    """What signals ask of this process: the first one to stop, in order if it can; the second one to hurry."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        self._stop = cancel
        self._hurry = cancel
        self._received: list[int] = []

    def ask(self, stop: Callable[[], object], hurry: Callable[[], object]) -> None:
        """From now on there is something to stop in order."""
        self._stop, self._hurry = stop, hurry

    def receive(self, number: int) -> None:
        """React to a signal."""
        self._received.append(number)
        if len(self._received) == 1:
            self._stop()
        elif len(self._received) == 2:
            self._hurry()
            loop = asyncio.get_running_loop()
            loop.call_later(HURRY_SECONDS, self._cancel)
            loop.call_later(HURRY_SECONDS + CLOSE_SECONDS, self._exit)
        else:
            self._exit()

    @property
    def hurried(self) -> bool:
        """Was there more than the one signal that asks for an orderly stop?"""
        return len(self._received) > 1

    @property
    def exit_code(self) -> int:
        """Of a process that these signals have ended out of order."""
        return _KILLED + self._received[-1] if self._received else ExitCode.UNEXPECTED

    def _exit(self) -> None:
        """End the process on the spot, whatever it waits for."""
        log.warning("stop.cut_off", signals=len(self._received))
        os._exit(self.exit_code)


async def until_stopped(run: Callable[[StopSignals], Awaitable[None]]) -> int:
    """Run what runs until it is told to stop; 0 once it has done so in order."""
    with _stop_signals() as signals:
        try:
            await run(signals)
        except asyncio.CancelledError:
            return signals.exit_code
    return signals.exit_code if signals.hurried else ExitCode.OK


@contextmanager
def _stop_signals() -> Iterator[StopSignals]:
    """The stop signals of this process, as long as the block; call it in the task that a second one shall cancel."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    signals = StopSignals(task.cancel)
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, signals.receive, number)
    try:
        yield signals
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
