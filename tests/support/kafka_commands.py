"""Commands over Kafka in tests: topics of a test's own, a consumer in this process, and a sender without manners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson

from events.codec import Record
from events.command_client import CommandClient
from events.command_envelope import PREFIX, CommandEnvelope, CommandReply
from events.command_signature import CommandSigner, signing_secret
from events.kafka_connection import KafkaConnection
from execution.command_consumer import CommandConsumer, open_command_consumer
from execution.keys import KeyRing
from execution.service import ExecutionService
from tests.support.kafka import read_topic
from tests.support.service import PATIENCE
from tests.support.waiting import eventually

SECRET = "of-the-service-" * 3
SOURCE = "/tests"


@dataclass(frozen=True)
class CommandTopics:
    """Topics that nobody else uses; the service under test creates them."""

    servers: str
    name: str = field(default_factory=lambda: f"test.{uuid4().hex}")

    @property
    def commands(self) -> str:
        return f"{self.name}.commands"

    @property
    def replies(self) -> str:
        return f"{self.name}.replies"

    @property
    def dead_letters(self) -> str:
        return f"{self.name}.dlq"

    @property
    def all(self) -> list[str]:
        return [self.commands, self.replies, self.dead_letters]

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection(bootstrap_servers=(self.servers,))

    @property
    def settings(self) -> dict[str, Any]:
        """Of a service that carries out signed commands of these topics."""
        return {
            "kafka_bootstrap_servers": self.servers,
            "kafka_commands_topic": self.commands,
            "kafka_replies_topic": self.replies,
            "kafka_dead_letters_topic": self.dead_letters,
            "kafka_commands_group": self.name,
            "kafka_commands_partitions": 3,
            "kafka_commands_secret": SECRET,
        }

    def client(self, key: str) -> CommandClient:
        """A client that signs as the owner of that key."""
        return CommandClient(
            self.connection, source=SOURCE, signer=signer(key), commands=self.commands, replies=self.replies
        )

    async def answered(self) -> list[Reply]:
        """Every reply there is now."""
        return [Reply.of(record) for record in await read_topic(self.servers, self.replies)]

    async def dead(self) -> list[Any]:
        """Every dead letter there is now."""
        return await read_topic(self.servers, self.dead_letters)

    async def until_dead(self, count: int, *, within: float = PATIENCE) -> list[dict[str, bytes]]:
        """The headers of so many dead letters, once there are so many."""

        async def enough() -> list[Any] | None:
            found = await self.dead()
            return found if len(found) >= count else None

        letters = await eventually(enough, within=within, what=f"{count} dead letters")
        assert len(letters) == count
        return [dict(letter.headers) for letter in letters]


@dataclass(frozen=True)
class Reply:
    """A reply as it is on its topic."""

    headers: Mapping[str, bytes]
    document: CommandReply

    @classmethod
    def of(cls, record: Any) -> Reply:
        return cls(dict(record.headers), CommandReply.of(record.value))


def signer(key: str) -> CommandSigner:
    """Of the owner of a key."""
    return CommandSigner(key, signing_secret(SECRET, key))


def command(
    name: str, execution_id: UUID | None = None, data: Any = None, *, command_id: str | None = None, **changes: Any
) -> CommandEnvelope:
    """An envelope that is right, but for the changes; `data` as bytes stays as it is."""
    fields: dict[str, Any] = {
        "id": command_id or str(uuid4()),
        "type": f"{PREFIX}{name}",
        "source": SOURCE,
        "time": datetime.now(UTC),
        "subject": execution_id,
        "data": data if isinstance(data, bytes) else b"" if data is None else orjson.dumps(data),
    }
    return CommandEnvelope(**fields | changes)


def with_header(record: Record, name: str, value: bytes | None) -> Record:
    """The record with that header changed, or without it."""
    headers = [pair for pair in record.headers if pair[0] != name]
    return Record(record.key, record.value, headers if value is None else [*headers, (name, value)])


@asynccontextmanager
async def carrying_out(service: ExecutionService, keys: KeyRing) -> AsyncIterator[CommandConsumer]:
    """A consumer of commands that has its share of the partitions; it ends in order."""
    async with open_command_consumer(service, keys) as consumer:
        running = asyncio.create_task(consumer.run(), name="command consumer under test")
        try:
            async with asyncio.timeout(PATIENCE):
                await consumer.ready.wait()
            yield consumer
        finally:
            async with asyncio.timeout(PATIENCE):
                await consumer.finish()
                await running
