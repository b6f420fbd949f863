"""`RequestReplyClient` against a real broker; whoever answers here is as simple as can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from events.codec import Record
from events.commands import ClosedError, NoReplyError, NotSentError
from events.deadlines import EXPIRY, seconds_left
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic
from events.request_reply import CORRELATION, RequestReplyClient
from scripts.kafka.broker import Broker
from tests.support.kafka import consumer, create_topic, delete_topics, producer
from tests.support.waiting import eventually, no_leaked_tasks

SOON = 40.0


@dataclass(frozen=True, kw_only=True)
class Topics:
    """The two topics of a test, and where they are."""

    servers: str
    requests: Topic
    replies: Topic


def topic_named(name: str) -> Topic:
    return Topic(name=name, partitions=2, retention_seconds=3_600)


@asynccontextmanager
async def two_topics(servers: str) -> AsyncIterator[Topics]:
    names = [await create_topic(servers, partitions=2) for _ in range(2)]
    yield Topics(servers=servers, requests=topic_named(names[0]), replies=topic_named(names[1]))
    await delete_topics(servers, names)


@pytest.fixture
async def topics(kafka: str) -> AsyncIterator[Topics]:
    async with two_topics(kafka) as both:
        yield both


@asynccontextmanager
async def client_of(topics: Topics, *, patience: float = 10.0) -> AsyncIterator[RequestReplyClient]:
    connection = KafkaConnection(bootstrap_servers=(topics.servers,), timeout=patience)
    client = RequestReplyClient(connection, requests=topics.requests, replies=topics.replies)
    try:
        yield client
    finally:
        await client.stop()


@asynccontextmanager
async def answered(topics: Topics, replies: Callable[[Any], Awaitable[int]]) -> AsyncIterator[None]:
    """Each request is answered with what it said, as often as `replies` says."""
    async with consumer(topics.servers, topics.requests.name) as ears, producer(topics.servers) as mouth:

        async def answer() -> None:
            async for record in ears:
                for _ in range(await replies(record)):
                    headers = [one for one in record.headers if one[0] == CORRELATION]
                    await mouth.send_and_wait(topics.replies.name, record.value, key=record.key, headers=headers)

        answering = asyncio.create_task(answer())
        yield
        answering.cancel()


async def once(_: Any) -> int:
    return 1


def saying(text: str) -> Record:
    return Record(text.encode(), text.encode(), [("ce_type", b"test.say")])


async def test_each_request_gets_its_own_reply(topics: Topics) -> None:
    async with no_leaked_tasks(), client_of(topics) as client, client_of(topics) as other, answered(topics, once):
        asked = [(one, f"{number}") for number in range(50) for one in (client, other)]
        replies = await asyncio.gather(*(one.request(saying(text), "say", timeout=SOON) for one, text in asked))
        assert [reply.value.decode() for reply in replies] == [text for _, text in asked]
        assert client.late == other.late == client.rebuilds == 0


async def test_a_request_says_until_when_it_is_of_use(topics: Topics) -> None:
    seen: list[dict[str, bytes]] = []

    async def look(record: Any) -> int:
        seen.append(dict(record.headers))
        return 1

    async with client_of(topics) as client, answered(topics, look):
        await client.request(saying("x"), "say", timeout=SOON)
    left = seconds_left(seen[0])
    assert left is not None
    assert 0 < left < SOON
    assert seen[0][EXPIRY].endswith(b"Z")
    assert seen[0]["ce_type"] == b"test.say"


async def test_a_late_reply_is_counted_and_given_to_nobody(topics: Topics) -> None:
    may_answer = asyncio.Event()

    async def late(record: Any) -> int:
        if record.value == b"first":
            await may_answer.wait()
        return 1

    async with client_of(topics) as client, answered(topics, late):
        await client.request(saying("warm"), "say", timeout=SOON)
        with pytest.raises(NoReplyError, match=r"no reply to 'say' within 1 s"):
            await client.request(saying("first"), "say", timeout=1.0)
        may_answer.set()
        reply = await client.request(saying("second"), "say", timeout=SOON)
        assert reply.value == b"second"
        await eventually(lambda: client.late == 1, within=SOON, what="the late reply")


async def test_a_second_reply_is_late_and_a_strangers_is_nobodys(topics: Topics) -> None:
    async def twice(_: Any) -> int:
        return 2

    async with client_of(topics) as client, answered(topics, twice), producer(topics.servers) as stranger:
        strange = [(CORRELATION, b"somebody-1"), (CORRELATION, b"\xff"), ("x", b"y")]
        for header in strange:
            await stranger.send_and_wait(topics.replies.name, b"?", headers=[header])
        assert (await client.request(saying("a"), "say", timeout=SOON)).value == b"a"
        await eventually(lambda: client.late == 1, within=SOON, what="the second reply")


async def test_what_is_too_large_is_said_at_once_and_costs_no_producer(topics: Topics) -> None:
    async with client_of(topics) as client, answered(topics, once):
        with pytest.raises(NotSentError, match=r"'say' could not be sent: .*MessageSizeTooLarge"):
            await client.request(saying("x" * 2_000_000), "say", timeout=SOON)
        assert (await client.request(saying("a"), "say", timeout=SOON)).value == b"a"
        assert client.rebuilds == 0


async def test_a_stop_lets_go_whoever_waits(topics: Topics) -> None:
    asked = asyncio.Event()

    async def never(_: Any) -> int:
        asked.set()
        return 0

    async with no_leaked_tasks(), client_of(topics) as client, answered(topics, never):
        waiting = asyncio.create_task(client.request(saying("x"), "say", timeout=SOON))
        async with asyncio.timeout(SOON):
            await asked.wait()
            await client.stop()
            with pytest.raises(ClosedError):
                await waiting


async def test_without_a_broker_it_says_what_is_wrong() -> None:
    nowhere = Topics(servers="127.0.0.1:9", requests=topic_named("a"), replies=topic_named("b"))
    async with client_of(nowhere) as client:
        with pytest.raises(NotSentError, match="KafkaConnectionError"):
            await client.request(saying("x"), "say", timeout=0.5)


@pytest.mark.xdist_group("kafka")
async def test_it_bears_a_broker_that_freezes(own_broker: Broker) -> None:
    async with (
        two_topics(own_broker.servers) as topics,
        no_leaked_tasks(),
        client_of(topics, patience=1.0) as client,
        answered(topics, once),
    ):
        await client.request(saying("before"), "say", timeout=SOON)
        with own_broker.paused():
            waiting = asyncio.create_task(client.request(saying("frozen"), "say", timeout=SOON))
            await eventually(lambda: client.rebuilds >= 1, within=SOON, what="a producer thrown away")
        assert (await waiting).value == b"frozen"
