"""`KafkaEventBus` where the brokers do not do what they should, and the topic it needs."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from events.bus import EventBusError
from events.envelope import Envelope
from events.kafka import KafkaEventBus
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic
from scripts.kafka.broker import Broker
from tests.support.facts import fact_envelope
from tests.support.kafka import create_topic
from tests.support.published import published
from tests.support.waiting import no_leaked_tasks, nothing_overlooked

pytestmark = pytest.mark.xdist_group("kafka")  # the module has a broker of its own

IMPATIENT = 1.0
SOON = 20.0


def bus_on(servers: str, topic: str | None = None) -> KafkaEventBus:
    wanted = Topic(name=topic or f"test.{uuid4().hex}", partitions=3, retention_seconds=3_600)
    return KafkaEventBus(KafkaConnection(bootstrap_servers=(servers,), timeout=IMPATIENT), wanted, source="/test")


def progress(*versions: int) -> list[Envelope]:
    return [fact_envelope(version=version) for version in versions]


async def test_a_broker_that_stands_still_costs_the_producer_and_nothing_else(own_broker: Broker) -> None:
    topic = f"test.{uuid4().hex}"
    async with nothing_overlooked(), no_leaked_tasks(), asyncio.timeout(SOON):
        bus = bus_on(own_broker.servers, topic)
        await bus.publish(progress(1))
        with own_broker.paused():
            with pytest.raises(EventBusError, match="TimeoutError"):
                await bus.publish(progress(2, 3))
            assert not bus.is_connected
        await bus.publish(progress(2, 3, 4))
        await bus.stop()
    assert (bus.rebuilds, bus.published) == (1, 4)
    found = await published(own_broker.servers, topic)
    found.assert_in_order()
    assert {version for _, version in found.keys} == {1, 2, 3, 4}


async def test_what_is_given_up_is_an_error_once(own_broker: Broker) -> None:
    """The one who published is told; nothing else is left that the event loop would complain of."""
    async with nothing_overlooked(), no_leaked_tasks(), asyncio.timeout(SOON):
        bus = bus_on(own_broker.servers)
        await bus.publish(progress(1))
        with own_broker.paused():
            with pytest.raises(EventBusError, match="TimeoutError"):
                await bus.publish(progress(2))
            await bus.stop()


async def test_a_broker_that_is_away_is_an_error_within_the_time(own_broker: Broker) -> None:
    async with no_leaked_tasks(), asyncio.timeout(SOON):
        bus = bus_on("127.0.0.1:9")
        with pytest.raises(EventBusError):
            await bus.connect()
        await bus.stop()


async def test_a_caller_that_is_cancelled_leaves_a_bus_that_works(own_broker: Broker) -> None:
    async with nothing_overlooked(), no_leaked_tasks(), asyncio.timeout(SOON):
        bus = bus_on(own_broker.servers)
        await bus.publish(progress(1))
        with own_broker.paused():
            publishing = asyncio.create_task(bus.publish(progress(2)))
            await asyncio.wait([publishing], timeout=0.1)
            publishing.cancel()
            await asyncio.wait([publishing])
        await bus.publish(progress(2))
        await bus.stop()


async def test_a_compacted_topic_is_refused(own_broker: Broker) -> None:
    topic = await create_topic(own_broker.servers, config={"cleanup.policy": "compact"})
    bus = bus_on(own_broker.servers, topic)
    with pytest.raises(EventBusError, match=r"cleanup.policy is 'compact', which drops events"):
        await bus.connect()
    await bus.stop()


async def test_a_topic_for_small_records_is_refused(own_broker: Broker) -> None:
    topic = await create_topic(own_broker.servers, config={"max.message.bytes": "1000"})
    bus = bus_on(own_broker.servers, topic)
    with pytest.raises(EventBusError, match=r"max.message.bytes is 1000; at least 1048576 is needed"):
        await bus.connect()
    await bus.stop()


async def test_a_topic_with_other_partitions_is_used_as_it_is(own_broker: Broker) -> None:
    topic = await create_topic(own_broker.servers, partitions=5)
    bus = bus_on(own_broker.servers, topic)
    await bus.publish(progress(1))
    await bus.stop()
    assert bus.published == 1
