"""What every bus must do. An implementation joins by a factory in `EVENT_BUSES` or `COMMAND_BUSES`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from events.bus import BusEvent, EventBus, InProcessEventBus
from events.codec import EventCodec
from events.commands import (
    CommandBus,
    CommandBusError,
    InProcessCommandBus,
    NoReplyError,
    NoResponderError,
    Payload,
    RejectedError,
)
from events.envelope import Envelope
from events.kafka import KafkaEventBus
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic
from tests.support.command_topics import answering, asking, command_topics
from tests.support.kafka import consumer, delete_topics

SOON = 10.0


@dataclass(frozen=True, kw_only=True)
class EventBusUnderTest:
    """A bus, and a way to hear it: `listen()` gives the function that returns the next event."""

    bus: EventBus
    listen: Callable[[], AbstractAsyncContextManager[Callable[[], Awaitable[BusEvent]]]]


@asynccontextmanager
async def in_process_events() -> AsyncIterator[EventBusUnderTest]:
    bus = InProcessEventBus()

    @asynccontextmanager
    async def listen() -> AsyncIterator[Callable[[], Awaitable[BusEvent]]]:
        async with bus.subscribe() as subscription:
            yield subscription.get

    yield EventBusUnderTest(bus=bus, listen=listen)


@asynccontextmanager
async def kafka_events(servers: str) -> AsyncIterator[EventBusUnderTest]:
    topic = Topic(name=f"test.{uuid4().hex}", partitions=3, retention_seconds=3_600)
    bus = KafkaEventBus(KafkaConnection(bootstrap_servers=(servers,)), topic, source="/test", batch_bytes=16_384)
    await bus.connect()

    @asynccontextmanager
    async def listen() -> AsyncIterator[Callable[[], Awaitable[BusEvent]]]:
        async with consumer(servers, topic.name, checked=False) as ears:  # payloads are not what a bus looks at

            async def get() -> BusEvent:
                record = await ears.getone()
                event = EventCodec().decode(record.value, record.headers)
                return BusEvent(event.type, event.data)

            yield get

    try:
        yield EventBusUnderTest(bus=bus, listen=listen)
    finally:
        await bus.stop()
        await delete_topics(servers, [topic.name])


@dataclass(frozen=True, kw_only=True)
class CommandBusUnderTest:
    """A bus, and a way to answer on it."""

    bus: CommandBus
    respond: Callable[[str, Callable[[Payload], Any]], None]


@asynccontextmanager
async def in_process_commands() -> AsyncIterator[CommandBusUnderTest]:
    bus = InProcessCommandBus()
    yield CommandBusUnderTest(bus=bus, respond=bus.respond)


@asynccontextmanager
async def kafka_commands(servers: str) -> AsyncIterator[CommandBusUnderTest]:
    async with (
        command_topics(servers) as topics,
        answering(servers, topics) as responders,
        asking(servers, topics) as bus,
    ):
        await bus.request("warm.up", {}, timeout=SOON)
        yield CommandBusUnderTest(bus=bus, respond=responders.respond)


EVENT_BUSES = ["in_process_events", "kafka_events"]
COMMAND_BUSES = ["in_process_commands", "kafka_commands"]


@pytest.fixture(params=EVENT_BUSES)
async def events(request: pytest.FixtureRequest) -> AsyncIterator[EventBusUnderTest]:
    is_kafka = request.param == "kafka_events"
    async with kafka_events(request.getfixturevalue("kafka")) if is_kafka else in_process_events() as bus:
        yield bus


@pytest.fixture(params=COMMAND_BUSES)
async def commands(request: pytest.FixtureRequest) -> AsyncIterator[CommandBusUnderTest]:
    is_kafka = request.param == "kafka_commands"
    async with kafka_commands(request.getfixturevalue("kafka")) if is_kafka else in_process_commands() as bus:
        yield bus


def numbered(execution: str, version: int) -> Payload:
    return {"execution_id": execution, "version": version}


async def taken(get: Callable[[], Awaitable[BusEvent]], count: int) -> list[BusEvent]:
    async with asyncio.timeout(SOON):
        return [await get() for _ in range(count)]


class TestEventBus:
    async def test_a_listener_gets_type_and_payload_as_published(self, events: EventBusUnderTest) -> None:
        payload = {"execution_id": "e1", "nested": {"list": [1, None, "ü"]}, "version": 1}
        async with events.listen() as get:
            await events.bus.publish_event("agent.execution.progress", payload)
            (event,) = await taken(get, 1)
        assert (event.type, event.payload) == ("agent.execution.progress", payload)

    async def test_the_order_of_each_execution_is_kept(self, events: EventBusUnderTest) -> None:
        async with events.listen() as get:
            for version in range(1, 51):
                for execution in "abc":
                    await events.bus.publish_event("agent.execution.progress", numbered(execution, version))
            heard = await taken(get, 150)
        for execution in "abc":
            versions = [event.payload["version"] for event in heard if event.payload["execution_id"] == execution]
            assert versions == list(range(1, 51))

    async def test_many_at_once_keep_their_order_too(self, events: EventBusUnderTest) -> None:
        wanted = [numbered(execution, version) for execution in "abc" for version in range(1, 501)]
        envelopes = [Envelope.around("agent.execution.progress", one, source="/test") for one in wanted]
        async with events.listen() as get:
            await events.bus.publish(envelopes)
            heard = [event.payload for event in await taken(get, len(wanted))]
        assert sorted(heard, key=lambda payload: str(payload["execution_id"])) == wanted

    async def test_every_listener_gets_everything(self, events: EventBusUnderTest) -> None:
        async with events.listen() as first, events.listen() as second:
            for version in range(1, 4):
                await events.bus.publish_event("agent.execution.progress", numbered("a", version))
            assert await taken(first, 3) == await taken(second, 3)

    async def test_publishing_to_nobody_is_no_error(self, events: EventBusUnderTest) -> None:
        await events.bus.publish_event("agent.execution.progress", numbered("a", 1))
        async with events.listen() as get:
            await events.bus.publish_event("agent.execution.progress", numbered("b", 1))
            while (await taken(get, 1))[0].payload["execution_id"] != "b":
                pass  # a bus that keeps what it is given may tell the first one, too


class TestInProcessEventBus:
    async def test_a_subscriber_that_lags_holds_the_publisher_back_and_loses_nothing(self) -> None:
        bus = InProcessEventBus(subscriber_size=2)
        async with bus.subscribe() as subscription:
            publishing = asyncio.create_task(_publish(bus, 5))
            first = await subscription.get()
            assert not publishing.done()
            rest = await taken(subscription.get, 4)
            await publishing
        assert [event.payload["version"] for event in (first, *rest)] == [1, 2, 3, 4, 5]

    async def test_what_feeds_it_is_attached_before_the_first_subscription_begins(self) -> None:
        bus = InProcessEventBus()
        attached: list[bool] = []

        async def attach() -> None:
            attached.append(bus.has_subscribers)

        bus.feed_from(attach)
        async with bus.subscribe(), bus.subscribe():
            assert attached == [True]
        assert not bus.has_subscribers
        async with bus.subscribe():
            assert attached == [True, True]

    async def test_who_joins_while_the_feed_is_being_attached_waits_for_it(self) -> None:
        bus = InProcessEventBus()
        attaching, attached = asyncio.Event(), asyncio.Event()

        async def attach() -> None:
            attaching.set()
            await attached.wait()

        async def join() -> None:
            async with bus.subscribe():
                pass

        bus.feed_from(attach)
        first = asyncio.create_task(join())
        await attaching.wait()
        second = asyncio.create_task(join())
        done, _ = await asyncio.wait([second], timeout=0.05)
        assert not done
        attached.set()
        await asyncio.gather(first, second)

    async def test_a_subscriber_that_leaves_with_a_full_queue_lets_the_publisher_go(self) -> None:
        bus = InProcessEventBus(subscriber_size=2)
        async with bus.subscribe():
            publishing = asyncio.create_task(_publish(bus, 9))
            done, _ = await asyncio.wait([publishing], timeout=0.05)
            assert not done
        async with asyncio.timeout(5):
            await publishing

    async def test_it_can_be_iterated(self) -> None:
        bus = InProcessEventBus()
        async with bus.subscribe() as subscription:
            await _publish(bus, 3)
            heard = []
            async for event in subscription:
                heard.append(event.payload["version"])
                if len(heard) == 3:
                    break
        assert heard == [1, 2, 3]


class TestCommandBus:
    async def test_the_reply_to_a_command(self, commands: CommandBusUnderTest) -> None:
        async def double(payload: Payload) -> Payload:
            return {"number": payload["number"] * 2}

        commands.respond("math.double", double)
        replies = await asyncio.gather(
            *(commands.bus.request("math.double", {"number": number}, timeout=SOON) for number in range(20))
        )
        assert [reply["number"] for reply in replies] == list(range(0, 40, 2))

    async def test_a_plain_function_may_answer(self, commands: CommandBusUnderTest) -> None:
        commands.respond("echo", lambda payload: payload)
        assert await commands.bus.request("echo", {"a": 1}, timeout=SOON) == {"a": 1}

    async def test_no_reply_before_the_deadline(self, commands: CommandBusUnderTest) -> None:
        async def never(_: Payload) -> Payload:
            await asyncio.Event().wait()
            raise AssertionError

        commands.respond("model.complete", never)
        with pytest.raises(NoReplyError, match=r"no reply to 'model.complete' within 1 s"):
            await commands.bus.request("model.complete", {}, timeout=1.0)  # brokers need a part of it to acknowledge

    async def test_an_error_as_the_reply(self, commands: CommandBusUnderTest) -> None:
        def refuse(_: Payload) -> Payload:
            raise ValueError("no such model")

        commands.respond("model.complete", refuse)
        with pytest.raises(RejectedError, match="ValueError: no such model"):
            await commands.bus.request("model.complete", {}, timeout=SOON)

    async def test_nobody_to_answer_is_a_bus_error_too(self, commands: CommandBusUnderTest) -> None:
        with pytest.raises(CommandBusError, match=r"nobody answers 'nobody.knows'"):
            await commands.bus.request("nobody.knows", {}, timeout=SOON)


async def test_in_process_nobody_to_answer_is_known_at_once() -> None:
    with pytest.raises(NoResponderError, match=r"nobody answers 'nobody.knows'"):
        await InProcessCommandBus().request("nobody.knows", {}, timeout=SOON)


async def _publish(bus: InProcessEventBus, count: int) -> None:
    for version in range(1, count + 1):
        await bus.publish_event("agent.execution.progress", numbered("a", version))
