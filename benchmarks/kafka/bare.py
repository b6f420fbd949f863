"""The bare client: what aiokafka does with the same records, without the service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from execution.settings import Settings

LONGEST_SECONDS = 120.0
BATCH_BYTES: int = Settings.model_fields["kafka_batch_bytes"].default
IN_FLIGHT = 10_000
"""Records that are under way at most: a program that sends for ever cannot keep all futures."""


@asynccontextmanager
async def bare_producer(servers: str) -> AsyncIterator[Any]:
    """A producer that promises what the service's promises: acknowledged by all replicas, and idempotent."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, enable_idempotence=True, acks="all", max_batch_size=BATCH_BYTES
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def sent_per_second(servers: str, topic: str, records: Sequence[Any]) -> float:
    """Records sent, with key and headers, and acknowledged per second, once each partition has taken one."""
    async with bare_producer(servers) as producer, asyncio.timeout(LONGEST_SECONDS):
        for partition in await producer.partitions_for(topic):
            await producer.send_and_wait(topic, b"", partition=partition)
        sent: list[Any] = []
        started = time.perf_counter()
        for first in range(0, len(records), IN_FLIGHT):
            sent = [
                await producer.send(topic, value=record.value, key=record.key, headers=list(record.headers))
                for record in records[first : first + IN_FLIGHT]
            ]
        await producer.flush()
        elapsed = time.perf_counter() - started
        await asyncio.gather(*sent)
    return len(records) / elapsed


@asynccontextmanager
async def bare_consumer(servers: str, topic: str, group: str | None = None) -> AsyncIterator[Any]:
    """A consumer of all partitions from the beginning."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read(servers: str, topic: str, count: int) -> list[Any]:
    """So many records of a topic."""
    records: list[Any] = []
    async with bare_consumer(servers, topic) as consumer, asyncio.timeout(LONGEST_SECONDS):
        while len(records) < count:
            for some in (await consumer.getmany(timeout_ms=1_000)).values():
                records += some
    return records


@asynccontextmanager
async def counting(servers: str, topic: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """What tells at once how many records a topic has; nothing of them is fetched."""
    async with bare_consumer(servers, topic) as consumer:
        consumer.pause(*consumer.assignment())

        async def records() -> int:
            async with asyncio.timeout(LONGEST_SECONDS):
                ends: dict[Any, int] = await consumer.end_offsets(consumer.assignment())
            return sum(ends.values())

        yield records
