"""How many events the relay publishes per second when there is much to publish, beside a bare producer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.kafka.bare import LONGEST_SECONDS, read, sent_per_second
from benchmarks.kafka.broker import new_topic
from benchmarks.kafka.extent import Extent
from execution.bench import floor
from execution.bench.databases import fresh_database
from execution.bench.figures import Against
from execution.durable_relay import DurableRelay
from execution.embedded import EmbeddedPostgres
from execution.settings import Settings
from execution.wiring import open_database, open_kafka_relay

PROGRESS_REPORTS = 3
EVENTS_EACH = 5 + PROGRESS_REPORTS
LOOK_AGAIN_SECONDS = 0.001


async def measure_throughput(server: EmbeddedPostgres, servers: str, extent: Extent) -> Against:
    """Both in this process and in turn, so that a drift of the machine meets both. The bare producer sends the very
    records that the relay has sent, to another topic.
    """
    against = Against(service=[], floor=[])
    events = extent.published * EVENTS_EACH
    async with fresh_database(server.url) as url:
        await floor.per_second(url, floor.FloorRun(executions=extent.published, progress_reports=PROGRESS_REPORTS))
        for _ in range(extent.rounds):
            topic = await new_topic(servers)
            against.service.append(await _relayed_per_second(url, servers, topic, events))
            records = await read(servers, topic, events)
            against.floor.append(await sent_per_second(servers, await new_topic(servers), records))
    return against


async def _relayed_per_second(url: str, servers: str, topic: str, events: int) -> float:
    """From the first batch on, so that neither side's connecting counts."""
    settings = Settings.load(
        database_url=url, kafka_bootstrap_servers=servers, kafka_events_topic=topic, log_level="WARNING"
    )
    async with open_database(settings) as database, open_kafka_relay(settings, database) as relay:
        running = asyncio.create_task(relay.run(), name="bench relay")
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                await _has_published(relay, 1)
                first, started = relay.state.published, time.perf_counter()
                await _has_published(relay, events)
                return (events - first) / (time.perf_counter() - started)
        finally:
            relay.stop()
            await running


async def _has_published(relay: DurableRelay, events: int) -> None:
    while relay.state.published < events:  # noqa: ASYNC110 - it is not told batch by batch
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def throughput_json(against: Against) -> dict[str, Any]:
    """Medians, and the ratio they are for."""
    relay, bare = against.medians
    return {
        "relay_per_second": round(relay, 1),
        "bare_per_second": round(bare, 1),
        "ratio": round(relay / bare, 3),
        "relay_rounds": [round(one) for one in against.service],
        "bare_rounds": [round(one) for one in against.floor],
    }
