"""A broker for the measurement alone, and topics on it as the service makes them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic, ensure_topic
from execution.settings import Settings
from scripts.kafka.broker import Broker


@asynccontextmanager
async def own_broker() -> AsyncIterator[Broker]:
    """A broker in a new folder, as `make kafka` starts it."""
    with tempfile.TemporaryDirectory(prefix="execution-bench-kafka-") as folder:
        broker = Broker(Path(folder))
        await asyncio.to_thread(broker.start)
        try:
            yield broker
        finally:
            await asyncio.to_thread(broker.kill)


async def new_topic(servers: str) -> str:
    """A topic as the service makes its own."""
    fields = Settings.model_fields
    topic = Topic(
        name=f"bench.{uuid4().hex}",
        partitions=fields["kafka_events_partitions"].default,
        retention_seconds=fields["kafka_events_retention_hours"].default * 3_600,
    )
    await ensure_topic(KafkaConnection(bootstrap_servers=(servers,)), topic)
    return topic.name
