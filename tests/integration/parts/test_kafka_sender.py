"""`KafkaSender`: acknowledged or an error, and never a producer that was there when a send failed."""

from __future__ import annotations

import asyncio

import pytest

from events.codec import Record
from events.kafka_connection import KafkaConnection
from events.kafka_sender import KafkaSender, RecordTooLargeError, SendError
from events.kafka_topics import Topic
from scripts.kafka.broker import Broker
from tests.support.kafka import create_topic, read_topic
from tests.support.waiting import no_leaked_tasks, nothing_overlooked

SOON = 40.0


def record(text: str) -> Record:
    return Record(b"key", text.encode(), [("name", b"value")])


def sender_to(servers: str, topic: str) -> KafkaSender:
    connection = KafkaConnection(bootstrap_servers=(servers,), timeout=1.5)
    return KafkaSender(connection, [Topic(name=topic, partitions=1, retention_seconds=604_800)])


@pytest.mark.xdist_group("kafka")
async def test_after_a_failure_there_is_another_producer(own_broker: Broker) -> None:
    name = await create_topic(own_broker.servers)
    async with nothing_overlooked(), no_leaked_tasks(), asyncio.timeout(SOON):
        sender = sender_to(own_broker.servers, name)
        await sender.send(name, record("before"))
        with pytest.raises(RecordTooLargeError):
            await sender.send(name, record("x" * 2_000_000))
        assert sender.rebuilds == 0
        with own_broker.paused():
            failed = await asyncio.gather(
                *(sender.send(name, record("lost")) for _ in range(3)), return_exceptions=True
            )
            assert {type(one) for one in failed} == {SendError}
            assert sender.rebuilds == 1  # one producer, however many were sending
        await sender.send(name, record("after"))
        await sender.stop()
    found = await read_topic(own_broker.servers, name)
    assert {one.value for one in found} - {b"lost"} == {b"before", b"after"}
    assert {(one.key, one.headers) for one in found} == {(b"key", (("name", b"value"),))}


@pytest.mark.xdist_group("kafka")
async def test_a_stop_does_not_wait_for_a_broker_that_does_not_answer(own_broker: Broker) -> None:
    name = await create_topic(own_broker.servers)
    async with nothing_overlooked(), no_leaked_tasks(), asyncio.timeout(SOON):
        sender = sender_to(own_broker.servers, name)
        await sender.send(name, record("before"))
        with own_broker.paused():
            sending = []
            for _ in range(3):  # in batches of their own: while one is under way, others wait for their turn
                sending.append(asyncio.create_task(sender.send(name, record("lost"))))
                await asyncio.sleep(0.05)
            await sender.stop()
            await asyncio.wait(sending)
            assert {type(one.exception()) for one in sending} == {SendError}
            await sender.stop()
