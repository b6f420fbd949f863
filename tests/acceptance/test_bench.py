"""`execution bench` measures what it says, in its short form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from execution.bench import Extent, measure, own_server

SMALL = Extent(executions=400, idle_samples=20, rounds=1, queued=300, idle_seconds=10.0)
"""Enough to run every measurement once; its figures say nothing."""


@pytest.mark.parametrize("idle_seconds", [10.0, pytest.param(60.0, marks=pytest.mark.slow)])
@pytest.mark.timeout(240)
async def test_every_figure_is_measured(idle_seconds: float) -> None:
    said: list[str] = []

    async with own_server() as server:
        figures = (await measure(server, replace(SMALL, idle_seconds=idle_seconds), said.append)).to_json()

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
    assert figures["idle_queries_per_minute"] < 120, "a worker and 100 watchers ask too much, with nothing to do"
    assert figures["idle_queries_per_minute"] >= 30, "the heartbeats alone are 30: the count has missed them"
