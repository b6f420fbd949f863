"""What PostgreSQL itself says about how long statements took, wherever a busy client may have waited besides."""

from __future__ import annotations

import re
from pathlib import Path

LOG_EVERY_DURATION = {"log_min_duration_statement": "0", "log_parameter_max_length": "0"}
"""Settings of a server whose log is to be read so."""

_EXECUTED = re.compile(r"duration: ([0-9.]+) ms  execute [^:]*: (.{40})", re.DOTALL)


def durations_of(log: Path, statement: str, *, after: int = 0) -> list[float]:
    """Milliseconds of each execution of a prepared statement since byte `after` of the log, in order."""
    begins = " ".join(statement.split())[:30]
    with log.open("rb") as file:
        file.seek(after)
        text = file.read().decode(errors="replace")
    return [float(duration) for duration, sql in _EXECUTED.findall(text) if " ".join(sql.split())[:30] == begins]


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
