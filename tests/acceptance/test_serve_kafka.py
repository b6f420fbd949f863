"""`execution serve` with a broker: what is submitted over HTTP is on the topic, and the figures say so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.http_server import server_process
from tests.support.kafka import delete_topics
from tests.support.published import all_published
from tests.support.stored import AnyConnection

SOON = 20.0
TRACE = f"00-{'1' * 32}-{'2' * 16}-01"


@pytest.fixture
async def events_topic(kafka: str) -> AsyncIterator[str]:
    name = f"test.{uuid4().hex}"
    yield name
    await delete_topics(kafka, [name])


def figures(exposition: str) -> dict[str, float]:
    """The relay's, without labels."""
    lines = (line.split() for line in exposition.splitlines() if line.startswith("execution_relay_"))
    return {name: float(value) for name, value in lines if "{" not in name}


async def test_what_is_submitted_is_published(
    kafka: str, events_topic: str, database_url: str, sql: AnyConnection
) -> None:
    settings: dict[str, Any] = {"kafka_bootstrap_servers": kafka, "kafka_events_topic": events_topic}
    async with server_process(database_url, **settings) as server, httpx.AsyncClient(base_url=server.url) as client:
        for _ in range(10):
            headers = {"Prefer": "wait=10", "traceparent": TRACE}
            answer = await client.post("/v1/executions", json={"kind": "noop"}, headers=headers)
            assert answer.json()["state"] == "COMPLETED"
        found = await all_published(kafka, events_topic, sql, within=SOON)
        said = figures((await client.get("/metrics")).text)
        ready = (await client.get("/health/ready")).json()
    assert found.repeats == 0
    assert {(one.tenant, one.traceparent, one.source) for one in found.events} == {
        ("default", TRACE, "/execution-service")
    }
    assert {one.time.isoformat().replace("+00:00", "Z") for one in found.events if one.time} == {
        one.data["occurred_at"] for one in found.events
    }
    assert said["execution_relay_published_total"] == len(found.events)
    assert said["execution_relay_lease_held"] == 1
    assert ready["checks"]["relay"]["status"] == ready["checks"]["barrier"]["status"] == "ok"


async def test_a_broker_that_is_away_keeps_nobody_from_working(database_url: str) -> None:
    settings: dict[str, Any] = {"kafka_bootstrap_servers": "127.0.0.1:9", "kafka_timeout_seconds": 1}
    async with server_process(database_url, **settings) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/v1/executions", json={"kind": "noop"}, headers={"Prefer": "wait=10"})
        assert answer.json()["state"] == "COMPLETED"
        ready = await client.get("/health/ready")
        said = figures((await client.get("/metrics")).text)
    assert ready.status_code == 200
    assert said["execution_relay_published_total"] == 0
    assert said["execution_relay_events_waiting"] > 0
