"""`KafkaEventBus`: events as records of one topic, in order per execution, each acknowledged by all replicas.

After any failure the producer is thrown away with all it holds (`kafka_producer.py`), and whoever publishes gives
everything once more to a new one.

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

from aiokafka.partitioner import murmur2

from events.bus import EventBusError
from events.codec import EventCodec, Record
from events.envelope import Envelope, Outgoing
from events.kafka_closing import hear, told
from events.kafka_connection import KafkaConnection
from events.kafka_producer import LentProducer
from events.kafka_topics import Topic

ENCODED_AT_ONCE = 200
"""Records that are encoded before the event loop gets its turn: some two milliseconds."""


class KafkaEventBus:
    """Publishes to one topic, which it creates or checks when it connects; it connects when it has to.

    Args:
        source: who says so, in envelopes that are made of payloads alone.
        batch_bytes: the most that goes to one partition at once.
    """

    def __init__(self, connection: KafkaConnection, topic: Topic, *, source: str, batch_bytes: int = 262_144) -> None:
        self._timeout = connection.timeout
        self._topic = topic
        self._source = source
        self._codec = EventCodec()
        self._producer = LentProducer(connection, [topic], max_batch_size=batch_bytes)
        self._publishing = asyncio.Lock()
        self.published = 0
        """Events that were acknowledged."""

    @property
    def is_connected(self) -> bool:
        """Is there a producer that nothing is known to be wrong with?"""
        return self._producer.is_connected

    @property
    def rebuilds(self) -> int:
        """Producers that were thrown away."""
        return self._producer.rebuilds

    async def publish_event(self, event_type: str, payload: dict[str, Any]) -> None:
        """Publish one event; returns when all replicas have it.

        Raises:
            EventBusError: it may or may not have been delivered.
        """
        await self.publish([Envelope.around(event_type, payload, source=self._source)])

    async def publish(self, envelopes: Sequence[Outgoing]) -> None:
        """Publish many, in order per execution; returns when all replicas have all of them.

        Raises:
            EventBusError: some may have been delivered, of each execution none without those before it.
        """
        producer = None
        async with self._publishing:
            try:
                async with asyncio.timeout(self._timeout):
                    producer = await self._producer.get()
                    await self._send(producer, envelopes)
            except Exception as error:  # whatever it was: the producer cannot be trusted any more
                self._producer.throw_away(producer, error)
                raise EventBusError(told(error)) from error
            except asyncio.CancelledError:
                self._producer.throw_away(producer, None)
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
        await self._producer.stop()

    async def _send(self, producer: Any, envelopes: Sequence[Outgoing]) -> None:
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
            # Not gathered: what is cancelled of aiokafka's leaves an error behind that nobody asks for, which is told.
            done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            for future in futures:
                future.add_done_callback(hear)


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
