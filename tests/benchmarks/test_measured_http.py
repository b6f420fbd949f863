"""The measurement of the HTTP door runs, in its smallest form, and measures what it says."""

from __future__ import annotations

import pytest

from benchmarks.http.__main__ import CONNECTIONS, measure_http, table


async def test_every_route_is_measured_beside_its_floor() -> None:
    results = await measure_http(0.1, 1, 1_000, lambda _: None)
    rows = results["routes"]
    assert [(row["route"], row["connections"]) for row in rows] == [
        (route, connections) for route in ("create", "get", "list") for connections in CONNECTIONS
    ]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["per_second"] / row["bare_per_second"], rel=0.1)
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert 0 < row["bare_p50_ms"] <= row["bare_p99_ms"]
    pages = results["pages"]
    assert pages["deep_page"] == 20
    assert pages["page_ratio"] == pytest.approx(pages["deep_page_p95_ms"] / pages["page_1_p95_ms"], rel=0.1)
    assert table(results).row_count == len(rows)
