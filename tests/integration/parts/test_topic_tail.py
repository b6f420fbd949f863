"""`TopicTail`: everything from its beginning on, once, whatever becomes of its consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic
from events.topic_tail import TopicTail
from tests.support.kafka import create_topic, delete_topics, produce
from tests.support.waiting import eventually, no_leaked_tasks

SOON = 40.0


@pytest.fixture
async def two_partitions(kafka: str) -> AsyncIterator[Topic]:
    name = await create_topic(kafka, partitions=2)
    yield Topic(name=name, partitions=2, retention_seconds=604_800)
    await delete_topics(kafka, [name])


@asynccontextmanager
async def heard_by(servers: str, topic: Topic, **options: Any) -> AsyncIterator[tuple[TopicTail, list[bytes]]]:
    heard: list[bytes] = []

    def take(record: Any) -> None:
        if record.value == b"bad":
            raise ValueError("whoever takes it has a defect")
        heard.append(record.value)

    async with no_leaked_tasks():
        tail = TopicTail(KafkaConnection(bootstrap_servers=(servers,)), topic, take, **options)
        tail.start()
        tail.start()
        async with asyncio.timeout(SOON):
            await tail.ready.wait()
        yield tail, heard
        await tail.stop()
        await tail.stop()


async def has_heard(heard: list[bytes], *wanted: bytes) -> None:
    await eventually(lambda: heard == list(wanted), within=SOON, what=f"{wanted}, and nothing else")


async def test_only_what_comes_from_now_on(kafka: str, two_partitions: Topic) -> None:
    await produce(kafka, two_partitions.name, [b"before"])
    async with heard_by(kafka, two_partitions) as (_, heard):
        await produce(kafka, two_partitions.name, [b"1", b"2"])
        await has_heard(heard, b"1", b"2")


async def test_a_consumer_that_is_thrown_away_loses_and_repeats_nothing(kafka: str, two_partitions: Topic) -> None:
    async with heard_by(kafka, two_partitions) as (tail, heard):
        before = tail.rebuilds
        await produce(kafka, two_partitions.name, [b"1", b"bad", b"2"])
        await eventually(lambda: tail.rebuilds > before, within=SOON, what="another consumer")
        await produce(kafka, two_partitions.name, [b"3"])
        await has_heard(heard, b"1", b"2", b"3")


async def test_a_consumer_that_stops_fetching_without_an_error_is_found_out(
    kafka: str, two_partitions: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    async def nothing(_: AIOKafkaConsumer, *, timeout_ms: int) -> dict[Any, Any]:
        looks.append(timeout_ms)
        await asyncio.sleep(0.01)
        return {}

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", nothing)
    async with heard_by(kafka, two_partitions, silence_seconds=0.1) as (tail, heard):
        before = tail.rebuilds  # a topic that was just made is not known everywhere at once
        await eventually(lambda: len(looks) > 30, within=SOON, what="time enough to ask whether something is new")
        assert tail.rebuilds == before
        await produce(kafka, two_partitions.name, [b"1"])
        await eventually(lambda: tail.rebuilds > before, within=SOON, what="the silence found out")
        monkeypatch.undo()
        await has_heard(heard, b"1")
