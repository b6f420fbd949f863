"""`TopicTail`: what comes to a topic from now on, in all its partitions, for readers that need no past and no group."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from events.kafka_closing import close_consumer, start_client, told
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic, ensure_topic

log = structlog.get_logger(__name__)

SHORTEST_BACK_OFF, LONGEST_BACK_OFF = 0.1, 5.0
LOOK_SECONDS = 1.0
"""How long one look for records waits for them."""


class SilentTailError(Exception):
    """The consumer reads, there is something new, and it is given nothing."""

    def __init__(self, partition: TopicPartition, behind: int) -> None:
        super().__init__(f"nothing of {behind} new records of {partition.topic}[{partition.partition}] was received")


class TopicTail:
    """Hands every record of a topic to `take`, from the moment that `ready` is set for the first time.

    Whatever goes wrong, the consumer is thrown away and the next one goes on where it was: nothing in between is lost,
    and nothing is handed on twice.

    Args:
        take: called in the order of each partition; what it raises counts as a failure of the consumer.
        silence_seconds: without a record, after which it is asked whether there are some.
    """

    def __init__(
        self, connection: KafkaConnection, topic: Topic, take: Callable[[Any], None], *, silence_seconds: float = 15.0
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._take = take
        self._silence_seconds = silence_seconds
        self._positions: dict[TopicPartition, int] = {}
        self._reading: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()
        """Set while it reads: whatever comes to the topic from now on is handed on."""
        self.problem: str | None = None
        """Why it does not read."""
        self.rebuilds = 0
        """Consumers that were thrown away."""

    def start(self) -> None:
        """Begin to read, if it does not yet."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._run(), name=f"read the tail of {self._topic.name}")

    async def stop(self) -> None:
        """Read nothing more."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])

    async def _run(self) -> None:
        back_off = SHORTEST_BACK_OFF
        while True:
            try:
                await self._read()
            except Exception as error:  # noqa: BLE001 - whatever it was: the consumer cannot be trusted any more
                self.problem = told(error)
                self.rebuilds += 1
                log.warning("kafka.consumer_thrown_away", error=self.problem, rebuilds=self.rebuilds)
            back_off = SHORTEST_BACK_OFF if self.ready.is_set() else min(2 * back_off, LONGEST_BACK_OFF)
            self.ready.clear()
            await asyncio.sleep(random.uniform(back_off / 2, back_off))

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            self._topic.name,
            **self._connection.options(),
            enable_auto_commit=False,
            auto_offset_reset="latest",
            max_partition_fetch_bytes=self._topic.largest_record,
        )
        try:
            async with asyncio.timeout(self._connection.timeout):
                partitions = await self._positioned(consumer)
            self.problem = None
            self.ready.set()
            heard_at = time.monotonic()
            while consumer.assignment() == partitions:  # a new partition begins anew, too, and at its beginning
                if await self._look(consumer):
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > self._silence_seconds:
                    await self._check_silence(consumer)
                    heard_at = time.monotonic()
        finally:
            await close_consumer(consumer)

    async def _look(self, consumer: Any) -> bool:
        """Hand on what is there, or comes in a moment; False if nothing does."""
        found = await consumer.getmany(timeout_ms=int(LOOK_SECONDS * 1000))
        for partition, records in found.items():
            for record in records:
                self._positions[partition] = record.offset + 1
                self._take(record)
        return bool(found)

    async def _check_silence(self, consumer: Any) -> None:
        """A client can stop fetching for good without an error: it is caught by what it should have fetched."""
        async with asyncio.timeout(self._connection.timeout):
            ends = await consumer.end_offsets(list(self._positions))
        behind = {one: end - self._positions[one] for one, end in ends.items() if end > self._positions[one]}
        if behind and not await self._look(consumer):  # it may have come just now
            raise SilentTailError(*behind.popitem())

    async def _positioned(self, consumer: Any) -> set[TopicPartition]:
        await ensure_topic(self._connection, self._topic)
        await start_client(consumer)
        partitions: set[TopicPartition] = set(consumer.assignment())
        known_before = bool(self._positions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, self._positions.setdefault(partition, 0 if known_before else ends[partition]))
        return partitions
