"""The database's clock, read without asking the database each time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

MOST_DRIFT = 1e-4
"""Seconds per second by which two clocks may run apart: twice what quartz does, and more than corrections of it do."""


class DatabaseClock:
    """Says what time it is by PostgreSQL's clock, from its answers and the local monotonic clock.

    The machine's own wall clock is never used: it may be wrong, and it jumps. Until the first answer it stands in,
    because there is nothing else. Comparisons that decide who holds what (heartbeats, deadlines, due times) happen in
    SQL; this clock only says when something occurred.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ahead = datetime.now(UTC).timestamp() - monotonic()
        """Seconds that the database's clock is ahead of the local monotonic one, at least."""
        self._synchronized_at: float | None = None

    def synchronize(self, answer: datetime, asked_at: float) -> None:
        """Learn from the database's time, which was asked for at `asked_at` on the monotonic clock; call it as soon as
        the answer is there.

        The database said it somewhere between the question and now. So by now it is at least so late: this clock is
        behind it by an answer's way, and never ahead, and what is due "now" here is due there. An answer that was slow,
        or had to wait for the loop, says less than one before it, which then stays; what it is worth shrinks by what
        the clocks may have run apart. Only if even the question came too early for that has the database's clock been
        set back.
        """
        now, said = self._monotonic(), answer.timestamp()
        at_least, at_most = said - now, said - asked_at
        if self._synchronized_at is not None:
            known = self._ahead - MOST_DRIFT * (now - self._synchronized_at)
            if at_least < known <= at_most:
                at_least = known
        self._ahead, self._synchronized_at = at_least, now

    def now(self) -> datetime:
        """The time now, with time zone UTC."""
        return datetime.fromtimestamp(self._ahead + self._monotonic(), UTC)
