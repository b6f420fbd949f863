"""`KafkaSender`: single records to any topic, each acknowledged by all replicas.

For records that stand for themselves, and for callers that send at the same time. Between records of different calls
there is no order; where there has to be one, await the first before the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from events.codec import Record
from events.kafka_closing import close_producer, start_client, told
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic, ensure_topic

log = structlog.get_logger(__name__)


class SendError(Exception):
    """A record was not acknowledged. It may have been delivered: whoever sends it again may send it twice."""

    def __init__(self, topic: str, problem: str) -> None:
        super().__init__(f"a record for topic {topic!r} was not acknowledged: {problem}")


class RecordTooLargeError(SendError):
    """It is larger than the brokers take, and was not sent."""


class KafkaSender:
    """Sends to topics that it creates or checks when it connects; it connects when it has to."""

    def __init__(self, connection: KafkaConnection, topics: Sequence[Topic]) -> None:
        self._connection = connection
        self._topics = topics
        self._producer: Any = None
        self._connecting = asyncio.Lock()
        self._discarding: set[asyncio.Task[None]] = set()
        self.rebuilds = 0
        """Producers that were thrown away."""

    async def send(self, topic: str, record: Record) -> None:
        """Send a record; returns when all replicas have it.

        Raises:
            RecordTooLargeError: no topic takes it.
            SendError: it may or may not have been delivered.
        """
        producer = None
        try:
            async with asyncio.timeout(self._connection.timeout):
                producer = await self._connected()
                sent = await producer.send(topic, record.value, key=record.key, headers=record.headers)
                await sent
        except MessageSizeTooLargeError as error:
            raise RecordTooLargeError(topic, told(error)) from error
        except Exception as error:  # whatever it was: the producer cannot be trusted any more
            self._throw_away(producer, error)
            raise SendError(topic, told(error)) from error

    async def stop(self) -> None:
        """Close everything, within seconds whatever the brokers do. Sent is what was acknowledged."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)
        await asyncio.gather(*self._discarding)

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._producer is None:
                for topic in self._topics:
                    await ensure_topic(self._connection, topic)
                producer = AIOKafkaProducer(
                    **self._connection.options(),
                    enable_idempotence=True,
                    acks="all",
                    max_request_size=max(topic.largest_record for topic in self._topics),
                )
                try:
                    await start_client(producer)
                except BaseException:
                    self._discard(producer)
                    raise
                self._producer = producer
            return self._producer

    def _throw_away(self, producer: Any, error: Exception) -> None:
        """Unless somebody else, who was sending at the same time, has done so already."""
        if producer is None or producer is self._producer:
            self._producer = None
            self.rebuilds += 1
            log.warning("kafka.producer_thrown_away", error=told(error), rebuilds=self.rebuilds)
            if producer is not None:
                self._discard(producer)

    def _discard(self, producer: Any) -> None:
        """Close it beside whatever goes on: a broker that does not answer must not hold up the next producer."""
        task = asyncio.create_task(close_producer(producer), name="close a kafka producer")
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)
