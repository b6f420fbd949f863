"""A command bus over Kafka for tests: topics of their own, who asks, and who answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from events.commands import CommandBus, InProcessCommandBus
from events.kafka_commands import CommandTopics, KafkaCommandBus, KafkaResponder
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic
from tests.support.kafka import WITHIN, delete_topics

PATIENCE = 10.0
"""What one thing may take the clients under test."""


@asynccontextmanager
async def command_topics(servers: str) -> AsyncIterator[CommandTopics]:
    """Two topics that are not there yet; those that are there in the end are deleted."""
    commands, replies = (
        Topic(name=f"test.{uuid4().hex}", partitions=3, retention_seconds=3_600, largest_record=100_000)
        for _ in range(2)
    )
    try:
        yield CommandTopics(commands=commands, replies=replies)
    finally:
        await delete_topics(servers, [commands.name, replies.name])


@asynccontextmanager
async def asking(servers: str, topics: CommandTopics) -> AsyncIterator[KafkaCommandBus]:
    """Who asks."""
    connection = KafkaConnection(bootstrap_servers=(servers,), timeout=PATIENCE)
    bus = KafkaCommandBus(connection, topics, source="/test")
    try:
        yield bus
    finally:
        await bus.stop()


def responder_of(servers: str, topics: CommandTopics, bus: CommandBus) -> KafkaResponder:
    """Who answers with what `bus` answers."""
    connection = KafkaConnection(bootstrap_servers=(servers,), timeout=PATIENCE)
    return KafkaResponder(connection, topics, bus, group=f"{topics.commands.name}.answers", source="/test/responder")


@asynccontextmanager
async def running(responder: KafkaResponder) -> AsyncIterator[None]:
    """It answers; at the end it is stopped in order."""
    task = asyncio.create_task(responder.run(), name="responder under test")
    try:
        async with asyncio.timeout(WITHIN):
            await responder.ready.wait()
        yield
    finally:
        responder.stop()
        async with asyncio.timeout(WITHIN):
            await task


@asynccontextmanager
async def answering(servers: str, topics: CommandTopics) -> AsyncIterator[InProcessCommandBus]:
    """The bus behind a responder that runs; it answers `warm.up`."""
    bus = InProcessCommandBus()
    bus.respond("warm.up", lambda payload: payload)
    async with running(responder_of(servers, topics, bus)):
        yield bus
