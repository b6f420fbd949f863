"""`KafkaEventBus`: events as records of one topic, in order per execution, each acknowledged by all replicas.

aiokafka's producer can wedge for good once a send has failed. So after any failure it is thrown away with all it holds,
and whoever publishes gives everything once more to a new one.

Of one partition at most one batch is under way, and the next is made only when that one is acknowledged. So no failure
leaves a gap in a partition: what was written is a prefix of what was given, however late an abandoned request arrives.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, zip_longest
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from events.bus import EventBusError
from events.codec import EventCodec, Record
from events.envelope import Envelope
from events.kafka_closing import close_producer, start_client, told
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic, ensure_topic

log = structlog.get_logger(__name__)

ENCODED_AT_ONCE = 200
"""Records that are encoded before the event loop gets its turn: some two milliseconds."""


class KafkaEventBus:
    """Publishes to one topic, which it creates or checks when it connects; it connects when it has to.

    Args:
        source: who says so, in envelopes that are made of payloads alone.
        batch_bytes: the most that goes to one partition at once.
    """

    def __init__(self, connection: KafkaConnection, topic: Topic, *, source: str, batch_bytes: int = 262_144) -> None:
        self._connection = connection
        self._topic = topic
        self._source = source
        self._batch_bytes = batch_bytes
        self._codec = EventCodec()
        self._producer: Any = None
        self._publishing = asyncio.Lock()
        self._discarding: set[asyncio.Task[None]] = set()
        self.rebuilds = 0
        """Producers that were thrown away."""
        self.published = 0
        """Events that were acknowledged."""

    @property
    def is_connected(self) -> bool:
        """Is there a producer that nothing is known to be wrong with?"""
        return self._producer is not None

    async def publish_event(self, event_type: str, payload: dict[str, Any]) -> None:
        """Publish one event; returns when all replicas have it.

        Raises:
            EventBusError: it may or may not have been delivered.
        """
        await self.publish([Envelope.around(event_type, payload, source=self._source)])

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish many, in order per execution; returns when all replicas have all of them.

        Raises:
            EventBusError: some may have been delivered, of each execution none without those before it.
        """
        async with self._publishing:
            try:
                async with asyncio.timeout(self._connection.timeout):
                    await self._send(await self._connected(), envelopes)
            except Exception as error:  # whatever it was: the producer cannot be trusted any more
                self._throw_away()
                log.warning("kafka.producer_thrown_away", error=told(error), rebuilds=self.rebuilds)
                raise EventBusError(told(error)) from error
            except asyncio.CancelledError:
                self._throw_away()
                raise
        self.published += len(envelopes)

    async def connect(self) -> None:
        """Connect now and not with the first event.

        Raises:
            EventBusError: it is not possible, or the topic is not as it has to be.
        """
        await self.publish([])

    async def stop(self) -> None:
        """Close everything, within seconds whatever the brokers do. Published is what was acknowledged."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)
        await asyncio.gather(*self._discarding)

    async def _connected(self) -> Any:
        if self._producer is None:
            await ensure_topic(self._connection, self._topic)
            producer = AIOKafkaProducer(
                **self._connection.options(),
                enable_idempotence=True,
                acks="all",
                max_batch_size=self._batch_bytes,
                max_request_size=self._topic.largest_record,
            )
            try:
                await start_client(producer)
            except BaseException:
                self._discard(producer)
                raise
            self._producer = producer
        return self._producer

    async def _send(self, producer: Any, envelopes: Sequence[Envelope]) -> None:
        partitions = sorted(await producer.partitions_for(self._topic.name))
        records: dict[int, list[Record]] = defaultdict(list)
        for number, (subject, group) in enumerate(groupby(envelopes, key=lambda one: one.subject), start=1):
            own = records[partitions[_hash(subject) % len(partitions)]]
            own += [self._codec.encode(envelope) for envelope in group]
            if number % ENCODED_AT_ONCE == 0:
                await asyncio.sleep(0)
        for batches in zip_longest(*(_batches(producer, partition, own) for partition, own in records.items())):
            await self._send_round(producer, [one for one in batches if one is not None])

    async def _send_round(self, producer: Any, batches: Sequence[tuple[int, Any]]) -> None:
        """One batch to each of some partitions."""
        futures: list[asyncio.Future[Any]] = []
        try:
            for partition, batch in batches:
                futures.append(await producer.send_batch(batch, self._topic.name, partition=partition))
            await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()  # else closing the producer would wait for them

    def _throw_away(self) -> None:
        producer, self._producer = self._producer, None
        self.rebuilds += 1
        if producer is not None:
            self._discard(producer)

    def _discard(self, producer: Any) -> None:
        """Close it beside whatever goes on: a broker that does not answer must not hold up the next producer."""
        task = asyncio.create_task(close_producer(producer), name="close a kafka producer")
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)


def _batches(producer: Any, partition: int, records: Sequence[Record]) -> Iterator[tuple[int, Any]]:
    """The records of one partition, in batches that are made when it is their turn."""
    batch = producer.create_batch()
    for record in records:
        if batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is None:
            yield partition, batch
            batch = producer.create_batch()
            batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
    batch.close()
    yield partition, batch


@lru_cache(maxsize=16_384)
def _hash(subject: str) -> int:
    """As Kafka's own clients choose a partition by the record's key. Kept, because it is Python and an execution's
    events come in several batches.
    """
    return int(murmur2(subject.encode())) & 0x7FFFFFFF
