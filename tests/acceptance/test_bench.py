"""`execution bench` measures what it says, in its short form."""

from __future__ import annotations

from execution.bench import Extent, measure

SMALL = Extent(executions=400, idle_samples=20, rounds=1)
"""Enough to run every measurement once; its figures say nothing."""


async def test_every_figure_is_measured() -> None:
    said: list[str] = []

    figures = (await measure(SMALL, said.append)).to_json()

    assert {
        "noop_per_second",
        "noop_floor_per_second",
        "progress_per_second",
        "progress_floor_per_second",
        "idle_p50_ms",
        "idle_floor_p50_ms",
        "worker_rss_mib",
    } <= figures.keys()
    assert all(value > 0 for value in figures.values())
    assert figures["noop_ratio"] == round(figures["noop_per_second"] / figures["noop_floor_per_second"], 3)
    assert figures["worker_rss_mib"] > 20, "a Python process with these imports cannot be smaller"
    assert len(said) == 4
