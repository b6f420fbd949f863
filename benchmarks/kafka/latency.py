"""How long an event takes from its commit to a consumer at 1,000 events per second, beside a bare producer's records.

The relay and the consumer have a process of their own each, client, service and worker a third. The commit's time is
PostgreSQL's own (`track_commit_timestamp`), taken before the commit is on disk.
"""

from __future__ import annotations

import time
from statistics import quantiles
from typing import Any

import asyncpg

from benchmarks.kafka.arrivals import ID, arrivals
from benchmarks.kafka.bare import bare_producer
from benchmarks.kafka.broker import new_topic
from benchmarks.kafka.pacing import paced
from execution.bench.command_process import command_process
from execution.bench.databases import fresh_database
from execution.bench.figures import Against
from execution.bench.service_runs import service_with_worker
from execution.embedded import EmbeddedPostgres

EVENTS_PER_SECOND = 1_000
EVENTS_EACH = 5
WARM_UP = 0.2
"""Part of the events that comes first and does not count."""
VALUE = b"x" * 300

_COMMITTED = """
SELECT execution_id::text || ':' || version AS id, extract(epoch FROM pg_xact_commit_timestamp(xid::xid))::float8 AS at
FROM execution_events
"""


async def measure_latency(server: EmbeddedPostgres, servers: str, seconds: float) -> Against:
    """Milliseconds of each event, published by the relay and by a bare producer."""
    return Against(
        service=await _by_relay(server, servers, seconds),
        floor=await _by_bare_producer(servers, seconds),
    )


async def _by_relay(server: EmbeddedPostgres, servers: str, seconds: float) -> list[float]:
    executions = int(seconds * EVENTS_PER_SECOND / EVENTS_EACH)
    topic = await new_topic(servers)
    kafka = {"kafka_bootstrap_servers": servers, "kafka_events_topic": topic}
    async with (
        fresh_database(server.url) as url,
        command_process("relay", url, **kafka),
        arrivals(servers, topic, executions * EVENTS_EACH) as arrived,
        service_with_worker(url) as service,
    ):
        await paced(executions, EVENTS_PER_SECOND / EVENTS_EACH, lambda _: service.create_execution("noop"))
        at = await arrived()
        return _milliseconds(await _committed(url), at)


async def _by_bare_producer(servers: str, seconds: float) -> list[float]:
    records = int(seconds * EVENTS_PER_SECOND)
    topic = await new_topic(servers)
    sent: dict[str, float] = {}
    async with arrivals(servers, topic, records) as arrived, bare_producer(servers) as producer:

        async def send(number: int) -> None:
            key = str(number)
            sent[key] = time.time()
            await producer.send_and_wait(topic, VALUE, key.encode(), headers=[(ID, key.encode())])

        await paced(records, EVENTS_PER_SECOND, send)
        return _milliseconds(sent, await arrived())


async def _committed(url: str) -> dict[str, float]:
    connection = await asyncpg.connect(url)
    try:
        return {row["id"]: row["at"] for row in await connection.fetch(_COMMITTED)}
    finally:
        await connection.close()


def _milliseconds(said: dict[str, float], arrived: dict[str, float]) -> list[float]:
    in_order = sorted(said, key=said.__getitem__)
    return [1_000 * (arrived[one] - said[one]) for one in in_order[int(WARM_UP * len(in_order)) :]]


def latency_json(against: Against) -> dict[str, Any]:
    """Percentiles in milliseconds."""
    sides = {"relay": quantiles(against.service, n=100), "bare": quantiles(against.floor, n=100)}
    return {
        f"{side}_{name}_ms": round(cuts[number - 1], 2)
        for side, cuts in sides.items()
        for name, number in (("p50", 50), ("p90", 90), ("p99", 99))
    }
