"""The database's clock, read without asking the database each time."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class DatabaseClock:
    """Says what time it is by PostgreSQL's clock, from its last answer and the local monotonic clock.

    The machine's own wall clock is never used: it may be wrong, and it jumps. Until the first answer it stands in,
    because there is nothing else. Comparisons that decide who holds what (heartbeats, deadlines, due times) happen in
    SQL; this clock only says when something occurred.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        """Seconds that the database's clock is ahead of the local monotonic one."""
        self.synchronize(datetime.now(UTC))

    def synchronize(self, answer: datetime) -> None:
        """Take over the database's time. Call it as soon as the answer is there.

        The answer is as old as its way back, so this clock runs behind the database's by that much and never ahead:
        what is due "now" here is due there.
        """
        self._ahead = answer.timestamp() - time.monotonic()

    def now(self) -> datetime:
        """The time now, with time zone UTC."""
        return datetime.fromtimestamp(self._ahead + time.monotonic(), UTC)
