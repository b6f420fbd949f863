"""The demo's own topic on the brokers that the environment names: read to its end, and deleted afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Self
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from events.codec import EventCodec, MalformedRecordError
from events.envelope import Envelope
from events.kafka_admin import administrator
from events.kafka_connection import KafkaConnection
from execution.demo.stage import default_values
from execution.errors import ExecutionServiceError
from execution.kafka_access import kafka_connection
from execution.settings import Settings

READ_SECONDS = 20.0
CLOSE_SECONDS = 5.0
PARTITIONS = 3
_PREFIX = "EXECUTION_KAFKA_"


class TopicUnreadableError(ExecutionServiceError):
    """What was published cannot be read."""

    code = "topic_unreadable"

    def __init__(self, topic: str, problem: str) -> None:
        super().__init__(f"Topic {topic!r} could not be read: {problem}. Are the brokers well, and may we read there?")


class DemoTopic:
    """A topic that nobody else knows."""

    def __init__(self, connection: KafkaConnection, variables: dict[str, str]) -> None:
        self.name = f"execution.demo.{uuid4().hex}"
        own = {"EVENTS_TOPIC": self.name, "EVENTS_PARTITIONS": str(PARTITIONS), "EVENTS_FROM": "beginning"}
        self.variables = variables | {_PREFIX + name: value for name, value in own.items()}
        """What a relay is given to publish here."""
        self._connection = connection

    @classmethod
    def from_environment(cls) -> Self:
        """Of the user's environment only this has a say in the demo: where Kafka is and how one gets in.

        Raises:
            SettingsError: no brokers are named, or it is not said rightly how to reach them.
        """
        variables = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
        return cls(kafka_connection(Settings.load(**default_values(except_of="kafka_"))), variables)

    @property
    def servers(self) -> str:
        """Where it is."""
        return ",".join(self._connection.bootstrap_servers)

    async def read(self) -> list[Envelope]:
        """Everything that is on it now, partition by partition, in order.

        Raises:
            TopicUnreadableError: the brokers do not answer as they should, or something else is on it, too.
        """
        # Otherwise it would look for the end by itself, and win or lose against being sent to the beginning.
        options = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
        consumer = AIOKafkaConsumer(**self._connection.options(), **options)
        codec = EventCodec()
        try:
            async with asyncio.timeout(READ_SECONDS):
                await consumer.start()
                return [codec.decode(one.value, one.headers) for one in await self._records(consumer)]
        except TimeoutError:
            raise TopicUnreadableError(self.name, f"it took longer than {READ_SECONDS:g} s") from None
        except (KafkaError, OSError, MalformedRecordError) as error:
            raise TopicUnreadableError(self.name, str(error)) from error
        finally:
            async with asyncio.timeout(CLOSE_SECONDS):
                await consumer.stop()

    async def _records(self, consumer: Any) -> list[Any]:
        partitions = [TopicPartition(self.name, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        records: list[Any] = []
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                records += (await consumer.getmany(partition, timeout_ms=500)).get(partition, [])
        return records

    async def delete(self) -> None:
        """Forget it, if it is there and the brokers can be reached; it would go by its retention anyway."""
        with suppress(KafkaError, OSError, TimeoutError):
            async with administrator(replace(self._connection, timeout=CLOSE_SECONDS)) as admin:
                await admin.delete_topics([self.name])


@asynccontextmanager
async def forgotten(topic: DemoTopic | None) -> AsyncIterator[None]:
    """The topic, if there is one, is deleted after the block, however that ends."""
    try:
        yield
    finally:
        if topic is not None:
            await topic.delete()
