"""`KafkaSender`: single records to any topic, each acknowledged by all replicas.

For records that stand for themselves, and for callers that send at the same time. Between records of different calls
there is no order; where there has to be one, await the first before the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka.errors import MessageSizeTooLargeError

from events.codec import Record
from events.kafka_closing import told
from events.kafka_connection import KafkaConnection
from events.kafka_producer import LentProducer
from events.kafka_topics import Topic


class SendError(Exception):
    """A record was not acknowledged. It may have been delivered: whoever sends it again may send it twice."""

    def __init__(self, topic: str, problem: str) -> None:
        super().__init__(f"a record for topic {topic!r} was not acknowledged: {problem}")


class RecordTooLargeError(SendError):
    """It is larger than the brokers take, and was not sent."""


class KafkaSender:
    """Sends to topics that it creates or checks when it connects; it connects when it has to."""

    def __init__(self, connection: KafkaConnection, topics: Sequence[Topic]) -> None:
        self._timeout = connection.timeout
        self._producer = LentProducer(connection, topics)

    @property
    def rebuilds(self) -> int:
        """Producers that were thrown away."""
        return self._producer.rebuilds

    async def send(self, topic: str, record: Record) -> None:
        """Send a record; returns when all replicas have it.

        Raises:
            RecordTooLargeError: no topic takes it.
            SendError: it may or may not have been delivered.
        """
        producer = None
        try:
            async with asyncio.timeout(self._timeout):
                producer = await self._producer.get()
                sent = await producer.send(topic, record.value, key=record.key, headers=record.headers)
                await sent
        except MessageSizeTooLargeError as error:
            raise RecordTooLargeError(topic, told(error)) from error
        except Exception as error:  # whatever it was: the producer cannot be trusted any more
            self._producer.throw_away(producer, error)
            raise SendError(topic, told(error)) from error

    async def stop(self) -> None:
        """Close everything, within seconds whatever the brokers do. Sent is what was acknowledged."""
        await self._producer.stop()
