"""The measurements of the relay run, in their smallest form, and measure what they say."""

from __future__ import annotations

import pytest

from benchmarks.kafka.__main__ import MEASURES, table
from benchmarks.kafka.effect import measure_effect
from benchmarks.kafka.extent import Extent
from benchmarks.kafka.lag import measure_lag
from benchmarks.kafka.latency import latency_json, measure_latency
from benchmarks.kafka.throughput import measure_throughput, throughput_json
from execution.bench import own_server

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.own_broker]

SMALLEST = Extent(rounds=1, published=300, paced_seconds=1.0, steady_seconds=1.0, pairs=1, executions=400)


async def test_throughput(kafka: str) -> None:
    async with own_server() as server:
        figures = throughput_json(await measure_throughput(server, kafka, SMALLEST))
    assert figures["ratio"] == pytest.approx(figures["relay_per_second"] / figures["bare_per_second"], rel=0.01)
    shown = table({"throughput": figures})
    assert shown.row_count == len(figures)


@pytest.mark.slow
async def test_latency(kafka: str) -> None:
    async with own_server(track_commit_timestamp="on") as server:
        measured = await measure_latency(server, kafka, SMALLEST.paced_seconds)
    assert len(measured.service) == len(measured.floor) == 800, "what comes first warms up"
    figures = latency_json(measured)
    assert 0 < figures["bare_p50_ms"] <= figures["bare_p99_ms"]
    assert 0 < figures["relay_p50_ms"] <= figures["relay_p99_ms"]


@pytest.mark.slow
async def test_lag(kafka: str) -> None:
    async with own_server() as server:
        lag = await measure_lag(server, kafka, SMALLEST.steady_seconds, per_second=100)
    figures = lag.to_json()
    assert figures["load_took_seconds"] >= 0.99, "the last one begins when it is due"
    assert 0 <= figures["behind_median"] <= figures["behind_most"] <= 500


@pytest.mark.slow
async def test_effect(kafka: str) -> None:
    async with own_server() as server:
        figures = (await measure_effect(server, kafka, SMALLEST)).to_json()
    for name in ("unlimited", "limit_10000"):
        assert figures[f"{name}_per_second"] > 0
        assert 0 < figures[f"{name}_published_meanwhile"] <= 1
        assert figures[f"{name}_lost_quartiles"] == [figures[f"{name}_lost"]] * 2, "of one pair"


def test_every_measure_has_its_rows() -> None:
    assert table({measure: {"figure": 1.0} for measure in MEASURES}).row_count == len(MEASURES)
