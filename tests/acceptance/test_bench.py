"""`execution bench` measures what it says, in its short form."""

from __future__ import annotations

from pathlib import Path

import pytest

from execution.bench import Extent, measure, own_server
from execution.bench.idle_queries import idle_queries_per_minute
from execution.embedded import EmbeddedPostgres
from tests.support.database import SERVER_OVERRIDES

SMALL = Extent(executions=400, idle_samples=20, rounds=1, queued=300, idle_seconds=2.5)
"""Enough to run every measurement once; its figures say nothing."""


@pytest.mark.timeout(120)
async def test_every_figure_is_measured() -> None:
    said: list[str] = []

    async with own_server() as server:
        figures = (await measure(server, SMALL, said.append)).to_json()

    assert {
        "noop_per_second",
        "noop_floor_per_second",
        "progress_per_second",
        "progress_floor_per_second",
        "idle_p50_ms",
        "idle_floor_p50_ms",
        "worker_rss_mib",
        "across_p50_ms",
        "across_floor_p50_ms",
        "idle_queries_per_minute",
    } <= figures.keys()
    assert all(value > 0 for value in figures.values())
    assert figures["noop_ratio"] == round(figures["noop_per_second"] / figures["noop_floor_per_second"], 3)
    assert figures["worker_rss_mib"] > 20, "a Python process with these imports cannot be smaller"
    assert len(said) == 6


@pytest.mark.parametrize("seconds", [10.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(120)])])
async def test_who_has_nothing_to_do_asks_little(cluster_folder: Path, seconds: float) -> None:
    """A worker and 100 watchers together: under 120 queries a minute, however many watch."""
    async with EmbeddedPostgres(cluster_folder, overrides=SERVER_OVERRIDES) as server:
        queries = await idle_queries_per_minute(server, seconds)
    assert queries < 120
    assert queries >= 30, "the heartbeats alone are 30: this count has missed them"
