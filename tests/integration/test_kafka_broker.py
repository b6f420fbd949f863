"""The broker of the tests: it keeps what it was given, and its faults are what they say they are."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError

from scripts.kafka.broker import HOST, Broker
from scripts.kafka.java import BrokerError
from tests.support.kafka import (
    WITHIN,
    as_user,
    broker_with_users,
    create_topic,
    produce,
    producer,
    read_topic,
    require_broker,
)

pytestmark = pytest.mark.xdist_group("kafka")

_VALUES = [b"%d" % number for number in range(200)]
_SOON = 1.0


def values_of(records: list[Any]) -> list[bytes]:
    return [record.value for record in records]


async def test_what_was_sent_is_read_in_its_order(kafka: str, topic: str) -> None:
    await produce(kafka, topic, _VALUES, enable_idempotence=True)
    assert values_of(await read_topic(kafka, topic)) == _VALUES


async def test_a_group_goes_on_where_it_has_committed(kafka: str, topic: str) -> None:
    await produce(kafka, topic, _VALUES)
    assert await _read_as_group(kafka, topic, 120) == _VALUES[:120]
    assert await _read_as_group(kafka, topic, 80) == _VALUES[120:]


async def _read_as_group(servers: str, topic: str, count: int) -> list[bytes]:
    reader = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=f"readers of {topic}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    async with asyncio.timeout(WITHIN):
        await reader.start()
        try:
            read = [(await reader.getone()).value for _ in range(count)]
            await reader.commit()
        finally:
            await reader.stop()
    return read


async def test_topics_are_made_on_purpose_only(own_broker: Broker) -> None:
    with pytest.raises((KafkaError, TimeoutError)):
        async with asyncio.timeout(_SOON):
            await produce(own_broker.servers, "test.misspelt", [b"lost"])


async def test_a_paused_broker_keeps_its_connections_and_answers_nobody(own_broker: Broker) -> None:
    topic = await create_topic(own_broker.servers)
    async with producer(own_broker.servers) as sender, asyncio.timeout(WITHIN):
        await sender.send_and_wait(topic, b"at once")
        with own_broker.paused():
            sending = await sender.send(topic, b"patient")
            await asyncio.wait([sending], timeout=_SOON)
            assert not sending.done()
            assert own_broker.is_running()
            assert not await asyncio.to_thread(own_broker.is_answering)
        await sending
    assert values_of(await read_topic(own_broker.servers, topic)) == [b"at once", b"patient"]


async def test_a_broker_that_was_restarted_or_killed_is_the_same_broker(own_broker: Broker) -> None:
    topic = await create_topic(own_broker.servers)
    servers, pids = own_broker.servers, [own_broker.pid]
    await produce(servers, topic, [b"before"])
    await asyncio.to_thread(own_broker.restart)
    pids.append(own_broker.pid)
    await produce(servers, topic, [b"between"])
    await asyncio.to_thread(own_broker.kill)
    assert not own_broker.is_running()
    await asyncio.to_thread(own_broker.start)
    pids.append(own_broker.pid)
    await produce(servers, topic, [b"after"])
    assert own_broker.servers == servers
    assert len({*pids, None}) == 4
    assert values_of(await read_topic(servers, topic)) == [b"before", b"between", b"after"]


def test_who_finds_a_running_broker_uses_and_can_stop_it(own_broker: Broker) -> None:
    found = Broker(own_broker.folder)
    assert (found.pid, found.servers) == (own_broker.pid, own_broker.servers)
    found.start()
    assert found.pid == own_broker.pid
    with own_broker.paused():
        found.stop()  # also one that stands still
    assert not own_broker.is_running()
    found.stop()


def test_a_broker_that_cannot_start_says_why(cluster_folder: Path) -> None:
    require_broker()
    with socket.create_server((HOST, 0)) as taken:
        broker = Broker(cluster_folder, port=taken.getsockname()[1])
        with pytest.raises(BrokerError, match="is taken"):
            broker.start()
    assert not broker.is_running()


async def test_a_broker_with_users_lets_in_nobody_else(cluster_folder: Path) -> None:
    require_broker()
    broker = broker_with_users(cluster_folder, {"ada": "difference", "grace": "nanosecond"})
    try:
        await asyncio.to_thread(broker.start)
        grace = as_user("grace", "nanosecond")
        topic = await create_topic(broker.servers, **grace)
        await produce(broker.servers, topic, [b"let in"], **grace)
        assert values_of(await read_topic(broker.servers, topic, **grace)) == [b"let in"]
        for stranger in (as_user("grace", "difference"), {}):
            with pytest.raises(KafkaConnectionError):
                await produce(broker.servers, topic, [b"kept out"], **stranger)
    finally:
        broker.kill()
