"""Deadlines that travel with a message, as the `expirytime` of CloudEvents.

They are by the clocks of the machines, which may differ. That is good enough, because nothing depends on them: who has
sent a message waits by its own monotonic clock, and a deadline only spares others an answer that nobody waits for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

EXPIRY = "ce_expirytime"


def time_in(seconds: float) -> bytes:
    """The time then, by this machine's clock, as CloudEvents write it; of 0 it is now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z").encode()


def deadline_in(seconds: float) -> tuple[str, bytes]:
    """The header that says until when an answer is of use."""
    return EXPIRY, time_in(seconds)


def seconds_left(headers: Mapping[str, bytes]) -> float | None:
    """Until the deadline, less than 0 after it; None without one.

    Raises:
        ValueError: the header says no time.
    """
    if (text := headers.get(EXPIRY)) is None:
        return None
    deadline = datetime.fromisoformat(text.decode())
    if deadline.tzinfo is None:
        raise ValueError(f"{EXPIRY} is without an offset from UTC")
    return (deadline - datetime.now(UTC)).total_seconds()
