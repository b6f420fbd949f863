"""`LentProducer`: one idempotent producer at a time, made when it is needed, and never used again once it has failed.

aiokafka's producer can wedge for good after a failed send. Whoever sends takes the producer there is, and throws it
away when anything goes wrong; it is closed beside whatever goes on, and the next one who asks gets another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

from events.kafka_closing import close_producer, start_client, told
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic, ensure_topic

log = structlog.get_logger(__name__)


class LentProducer:
    """For these topics, which it creates or checks when it connects. `options` are further ones of aiokafka's."""

    def __init__(self, connection: KafkaConnection, topics: Sequence[Topic], **options: Any) -> None:
        self._connection = connection
        self._topics = topics
        self._options = options
        self._producer: Any = None
        self._connecting = asyncio.Lock()
        self._discarding: set[asyncio.Task[None]] = set()
        self.rebuilds = 0
        """Producers that were thrown away."""

    @property
    def is_connected(self) -> bool:
        """Is there a producer that nothing is known to be wrong with?"""
        return self._producer is not None

    async def get(self) -> Any:
        """The producer; connects if there is none. Bounding the time is the caller's."""
        async with self._connecting:
            if self._producer is None:
                for topic in self._topics:
                    await ensure_topic(self._connection, topic)
                producer = AIOKafkaProducer(
                    **self._connection.options(),
                    enable_idempotence=True,
                    acks="all",
                    max_request_size=max(topic.largest_record for topic in self._topics),
                    **self._options,
                )
                try:
                    await start_client(producer)
                except BaseException:
                    self._discard(producer)
                    raise
                self._producer = producer
            return self._producer

    def throw_away(self, producer: Any, error: Exception | None) -> None:
        """After a failure (None: a cancellation) with this producer, or (None) to get one; once, however many were
        sending with it.
        """
        if producer is not None and producer is not self._producer:
            return
        self.rebuilds += 1
        if error is not None:
            log.warning("kafka.producer_thrown_away", error=told(error), rebuilds=self.rebuilds)
        if producer is not None:
            self._producer = None
            self._discard(producer)

    async def stop(self) -> None:
        """Close everything, within seconds whatever the brokers do."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)
        await asyncio.gather(*self._discarding)

    def _discard(self, producer: Any) -> None:
        """Close it beside whatever goes on: a broker that does not answer must not hold up the next producer."""
        task = asyncio.create_task(close_producer(producer), name="close a kafka producer")
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)
