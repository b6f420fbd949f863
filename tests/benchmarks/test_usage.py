"""The rule that names the bottleneck, and the figures it is read from."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.usage import Usage, bottleneck

SECONDS = 10.0
WAITING = "waiting: round trips one after another"


def usage(**changes: Any) -> Usage:
    """A load of ten seconds on two processors, of which nobody uses much."""
    of: dict[str, Any] = {
        "executions": 1_000,
        "seconds": SECONDS,
        "processors": 2,
        "service": {"worker": 1.0, "submitters": 0.5},
        "postgres": 2.0,
        "busiest_postgres": 1.0,
        "others": 0.5,
        "wal_bytes": 4_000_000,
        "wal_io_seconds": 1.0,
    }
    return Usage(**of | changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, WAITING),
        ({"service": {"worker": 8.9, "submitters": 0.5}}, WAITING),
        ({"service": {"worker": 9.0, "submitters": 0.5}}, "Python in the worker"),
        ({"service": {"worker": 1.0, "submitters": 9.5}}, "Python in the submitters"),
        ({"service": {"worker": 9.5, "submitters": 0.5}, "postgres": 8.0}, "all processors"),
        ({"service": {"worker": 9.5, "submitters": 0.5}, "postgres": 7.9}, "Python in the worker"),
        ({"service": {"worker": 9.5, "submitters": 0.5}, "postgres": 8.0, "processors": 4}, "Python in the worker"),
        ({"postgres": 9.6, "busiest_postgres": 9.0}, "one PostgreSQL process"),
        ({"postgres": 9.6, "busiest_postgres": 4.0}, WAITING),
        ({"others": 14.5}, "other programs"),
        ({"others": 14.5, "service": {"worker": 9.5}}, "Python in the worker"),
        ({"wal_io_seconds": 5.0}, "writing and syncing the WAL"),
        ({"wal_io_seconds": 4.9}, WAITING),
        ({"wal_io_seconds": 9.0, "service": {"worker": 9.5}}, "Python in the worker"),
    ],
)
def test_the_bottleneck(changes: dict[str, Any], named: str) -> None:
    assert bottleneck(usage(**changes)) == named


def test_figures_are_per_execution_and_per_second() -> None:
    assert usage().to_json() == {
        "per_second": 100.0,
        "service_cpu_us": 1500.0,
        "postgres_cpu_us": 2000.0,
        "wal_bytes": 4000,
        "service_busy": {"worker": 0.1, "submitters": 0.05},
        "postgres_busy": 0.2,
        "busiest_postgres_busy": 0.1,
        "wal_io_busy": 0.1,
        "others_busy": 0.05,
        "bottleneck": WAITING,
    }
