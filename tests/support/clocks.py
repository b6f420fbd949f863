"""A process whose wall clock is wrong, as on a machine that nobody synchronises."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace

import uuid_utils

import execution.clock


def shift_wall_clock(seconds: float) -> None:
    """Make every source of wall-clock time that the service reads wrong by so much, for the rest of the process.

    The times of ids count too: they come from native code, which asks the system by itself.
    """
    if not seconds:
        return
    right_time, right_time_ns, right_id = time.time, time.time_ns, uuid_utils.uuid7
    nanoseconds = int(seconds * 1e9)

    def wrong_now(tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + timedelta(seconds=seconds)

    def wrong_id() -> uuid_utils.UUID:
        milliseconds = (right_id().int >> 80) + int(seconds * 1000)
        return uuid_utils.UUID(int=(milliseconds << 80) | (right_id().int & ((1 << 80) - 1)))

    vars(time)["time"] = lambda: right_time() + seconds
    vars(time)["time_ns"] = lambda: right_time_ns() + nanoseconds
    vars(execution.clock)["datetime"] = SimpleNamespace(now=wrong_now, fromtimestamp=datetime.fromtimestamp)
    vars(uuid_utils)["uuid7"] = wrong_id
