"""Each of the measurements runs, in its smallest form, and measures what it says."""

from __future__ import annotations

import pytest

from benchmarks import growth, million
from benchmarks.loads import payload
from execution.bench import own_server
from execution.domain.documents import to_document
from execution.settings import Settings

POINTS = growth.Extent(workers=(2,), in_flight=(4,), payload_bytes=(100, 100_000), seconds=0.3, executions=400)
FINISHED = million.Extent(finished=50_000, executions=200, rounds=1)


@pytest.mark.timeout(120)
async def test_growth_and_a_full_database() -> None:
    said: list[str] = []
    async with own_server() as server:
        series = await growth.measure_growth(server, POINTS, said.append)
        full = await million.measure_million(server, FINISHED, said.append)

    ((workers,), (in_flight,), (small, large)) = series.values()
    assert [workers["at"], in_flight["at"], small["at"], large["at"]] == [2, 4, 100, 100_000]
    assert all(busy > 0 for busy in workers["service_busy"].values()), "a worker of the two had nothing to do"
    assert len(workers["service_busy"]) == 3
    assert large["wal_bytes"] > small["wal_bytes"] + 4 * 70_000, "stored four times, and hardly to be compressed"
    for point in (workers, in_flight, small, large):
        assert min(point["per_second"], point["service_cpu_us"], point["postgres_cpu_us"], point["wal_bytes"]) > 0
    assert full["page_1000_ms"] > 0
    assert full["throughput_ratio"] > 0


@pytest.mark.parametrize("size", growth.FULL.payload_bytes)
def test_a_payload_has_its_size_and_is_accepted(size: int) -> None:
    document = payload(size)
    assert abs(len(document["text"]) + len('{"text":""}') - size) <= 1
    to_document(document, "the payload", Settings.load().inline_limit_bytes)
