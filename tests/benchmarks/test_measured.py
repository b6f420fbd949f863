"""Each of the measurements runs, in its smallest form, and measures what it says."""

from __future__ import annotations

import pytest

from benchmarks import growth, million
from benchmarks.loads import payload
from benchmarks.steps import measure_steps
from execution.bench import own_server
from execution.domain.documents import to_document
from execution.settings import Settings

SIZE = 100_000
POINTS = growth.Extent(workers=(2,), in_flight=(4,), payload_bytes=(SIZE,), seconds=0.3, executions=400)
FINISHED = million.Extent(finished=50_000, executions=200, rounds=1)
"""As few as page 1,000 needs."""


@pytest.mark.timeout(120)
async def test_growth() -> None:
    async with own_server() as server:
        series = await growth.measure_growth(server, POINTS, lambda _: None)

    ((workers,), (in_flight,), (documents,)) = series.values()
    assert [workers["at"], in_flight["at"], documents["at"]] == [2, 4, SIZE]
    assert len(workers["service_busy"]) == 3
    assert documents["wal_bytes"] > 4 * SIZE, "stored four times, and not to be compressed"
    for point in (workers, in_flight, documents):
        assert min(point["per_second"], point["service_cpu_us"], point["postgres_cpu_us"], point["wal_bytes"]) > 0


@pytest.mark.slow
async def test_finished_executions() -> None:
    async with own_server() as server:
        measured = await million.measure_million(server, FINISHED, lambda _: None)
    assert min(value for name, value in measured.items() if name != "finished") > 0
    assert measured["cursor_page_ratio"] < measured["page_ratio"], "only the numbered page has a way to go"


def test_steps() -> None:
    measured = measure_steps(steps=200, rounds=3)
    assert min(measured.values()) > 0
    assert measured["step_executor_us"] == pytest.approx(
        measured["step_bare_us"] + measured["step_overhead_us"], abs=0.01
    )


@pytest.mark.parametrize("size", growth.FULL.payload_bytes)
def test_a_payload_has_its_size_and_is_accepted(size: int) -> None:
    document = payload(size)
    assert abs(len(document["text"]) + len('{"text":""}') - size) <= 1
    to_document(document, "the payload", Settings.load().inline_limit_bytes)
