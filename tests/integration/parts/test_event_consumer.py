"""`consume_events` against a real broker: what is given, in which order, what comes again, and what is an error."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from events.consumed_event import ConsumedEvent
from events.consumer import (
    EventStream,
    EventsUnavailableError,
    SequenceGapError,
    StreamOptions,
    UnreadableEventError,
    consume_events,
)
from events.envelope import Envelope
from events.kafka import KafkaEventBus
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic
from scripts.kafka.broker import Broker
from tests.support.kafka import delete_topics, producer
from tests.support.waiting import eventually, no_leaked_tasks

SOON = 40.0
ONE, TWO = "01970000-0000-7000-8000-000000000001", "01970000-0000-7000-8000-000000000002"


def event(execution: str, version: int) -> Envelope:
    data: dict[str, Any] = {
        "execution_id": execution,
        "agent_id": None,
        "task_id": None,
        "version": version,
        "occurred_at": "2025-06-01T12:00:00Z",
        "percentage": 1.0,
        "message": None,
        "context": {},
    }
    return Envelope.around("agent.execution.progress", data, source="/test")


class Said:
    """A topic, and what a relay would publish to it."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self.servers = servers
        self.topic = topic
        connection = KafkaConnection(bootstrap_servers=(servers,))
        spoken = Topic(name=topic, partitions=partitions, retention_seconds=3_600)
        self.bus = KafkaEventBus(connection, spoken, source="/test")

    async def say(self, *events: tuple[str, int]) -> None:
        await self.bus.publish([event(execution, version) for execution, version in events])

    def reading(self, group: str = "readers", *, within: float = 10.0, **options: Any) -> Any:
        connection = KafkaConnection(bootstrap_servers=(self.servers,), timeout=within)
        return consume_events(
            connection, group=f"{self.topic}.{group}", topic=self.topic, options=StreamOptions(**options)
        )


@asynccontextmanager
async def said_on(servers: str, partitions: int = 1) -> AsyncIterator[Said]:
    one = Said(servers, f"test.{uuid4().hex}", partitions)
    try:
        await one.say()
        yield one
    finally:
        await one.bus.stop()
        await delete_topics(servers, [one.topic])


@pytest.fixture
async def said(kafka: str) -> AsyncIterator[Said]:
    async with said_on(kafka) as one:
        yield one


async def given(stream: EventStream, count: int) -> list[tuple[str, int]]:
    """So many events, all of them processed."""
    async with asyncio.timeout(SOON):
        found = [place(await anext(stream)) for _ in range(count)]
    stream.done()
    return found


def place(one: ConsumedEvent) -> tuple[str, int]:
    return str(one.execution_id), one.version


async def test_each_event_once_and_in_order(said: Said) -> None:
    await said.say((ONE, 1), (ONE, 2), (TWO, 1))
    await said.say((ONE, 1), (ONE, 2), (ONE, 3), (TWO, 1), (TWO, 2))
    async with no_leaked_tasks(), said.reading() as stream:
        found = await given(stream, 5)
        assert stream.repeats == 3
    assert [one for one in found if one[0] == ONE] == [(ONE, 1), (ONE, 2), (ONE, 3)]
    assert [one for one in found if one[0] == TWO] == [(TWO, 1), (TWO, 2)]


async def test_what_is_done_does_not_come_again_and_what_is_not_does(said: Said) -> None:
    await said.say((ONE, 1), (ONE, 2), (ONE, 3))
    async with said.reading() as stream:
        assert await given(stream, 1) == [(ONE, 1)]
    with pytest.raises(ZeroDivisionError):
        await _failing_at_its_first(said)
    async with said.reading() as stream:
        assert await given(stream, 2) == [(ONE, 2), (ONE, 3)]
    await said.say((ONE, 4))
    async with said.reading() as stream:
        assert await given(stream, 1) == [(ONE, 4)]


async def test_asking_can_be_broken_off(said: Said) -> None:
    async with said.reading() as stream:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(stream)
        await said.say((ONE, 1))
        assert await given(stream, 1) == [(ONE, 1)]


async def test_what_is_no_event_is_an_error_until_it_is_skipped(said: Said) -> None:
    await said.say((ONE, 1))
    async with producer(said.servers) as stranger:
        await stranger.send_and_wait(said.topic, b"?", key=b"k")
    await said.say((ONE, 2))
    async with said.reading() as stream:
        assert await given(stream, 1) == [(ONE, 1)]
        for _ in range(2):
            with pytest.raises(UnreadableEventError, match=r"offset 1 of .*\[0\]: the record is no event"):
                await given(stream, 1)
        stream.skip()
        assert await given(stream, 1) == [(ONE, 2)]
    async with said.reading() as stream:
        await said.say((ONE, 3))
        assert await given(stream, 1) == [(ONE, 3)]


async def test_a_gap_is_an_error_until_it_is_said_how_to_go_on(said: Said) -> None:
    await said.say((ONE, 1), (ONE, 4), (ONE, 5), (TWO, 1), (TWO, 4), (TWO, 6))
    async with said.reading() as stream:
        assert await given(stream, 1) == [(ONE, 1)]
        for _ in range(2):
            with pytest.raises(SequenceGapError, match="version 4 follows 1"):
                await given(stream, 1)
        stream.caught_up(ONE, 3)
        assert await given(stream, 3) == [(ONE, 4), (ONE, 5), (TWO, 1)]
        with pytest.raises(SequenceGapError) as raised:
            await given(stream, 1)
        assert (place(raised.value.event), raised.value.last) == ((TWO, 4), 1)
        stream.caught_up(raised.value.event.execution_id, 5)
        assert await given(stream, 1) == [(TWO, 6)]


async def test_the_first_that_is_heard_of_an_execution_leaves_no_gap(said: Said) -> None:
    await said.say((ONE, 7), (ONE, 8))
    async with said.reading() as stream:
        assert await given(stream, 2) == [(ONE, 7), (ONE, 8)]


async def test_with_a_store_repeats_and_gaps_are_known_across_restarts(said: Said) -> None:
    kept = {ONE: 2, TWO: 2}
    asked: list[str] = []

    async def last_version(execution: str) -> int | None:
        asked.append(execution)
        return kept.get(execution)

    await said.say((ONE, 1), (ONE, 2), (ONE, 3), (TWO, 4))
    async with said.reading(last_version=last_version) as stream:
        assert await given(stream, 1) == [(ONE, 3)]
        with pytest.raises(SequenceGapError, match="version 4 follows 2"):
            await given(stream, 1)
    assert asked == [ONE, TWO]


async def test_what_another_member_had_in_the_meantime_is_no_gap(kafka: str) -> None:
    executions = [str(uuid4()) for _ in range(20)]  # so that both partitions have some
    async with said_on(kafka, partitions=2) as said, said.reading(session_seconds=6.0) as one:
        await said.say(*((execution, 1) for execution in executions))
        await given(one, 20)
        async with said.reading(session_seconds=6.0) as other:
            await eventually(lambda: one.state.assigned == other.state.assigned == 1, within=SOON, what="their shares")
            await said.say(*((execution, version) for version in (2, 3) for execution in executions))
            found: list[tuple[str, int]] = []
            readers = [asyncio.create_task(_all_of(stream, found)) for stream in (one, other)]
            await eventually(lambda: len(found) == 40, within=SOON, what="each its share")
            for reader in readers:
                reader.cancel()
            await asyncio.wait(readers)
        await eventually(lambda: one.state.assigned == 2, within=SOON, what="what the other one had")
        await said.say(*((execution, 4) for execution in executions))
        assert {version for _, version in await given(one, 20)} == {4}


async def _all_of(stream: EventStream, found: list[tuple[str, int]]) -> None:
    async for one in stream:
        found.append(place(one))
        stream.done()


async def test_when_members_come_and_go_nothing_is_missed_and_no_gap_is_seen(kafka: str) -> None:
    async with said_on(kafka, partitions=4) as said:
        await _members_coming_and_going(said)


async def _members_coming_and_going(said: Said) -> None:
    executions = [str(uuid4()) for _ in range(30)]
    heard: dict[str, list[int]] = defaultdict(list)
    enough = asyncio.Event()

    async def member() -> None:
        async with said.reading() as stream, aclosing(_given_one_by_one(stream)) as events:
            async for execution, version in events:
                heard[execution].append(version)
                if all(set(heard[one]) >= set(range(1, 11)) for one in executions):
                    enough.set()

    members = [asyncio.create_task(member())]
    for version in range(1, 11):
        await said.say(*((one, version) for one in executions))
        if version in (3, 6):
            members.append(asyncio.create_task(member()))
        if version == 8:
            members.pop(0).cancel()
    try:
        async with asyncio.timeout(SOON):
            await enough.wait()
    finally:
        for task in members:
            task.cancel()
        results = await asyncio.gather(*members, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in results), results


async def _failing_at_its_first(said: Said) -> None:
    async with said.reading() as stream:
        async for one in stream:
            assert place(one) == (ONE, 2)
            raise ZeroDivisionError


async def _given_one_by_one(stream: EventStream) -> AsyncGenerator[tuple[str, int]]:
    async for one in stream:
        await asyncio.sleep(0)  # others go on in the meantime
        yield place(one)


async def test_a_topic_or_a_broker_that_is_not_there_is_said_at_once(kafka: str) -> None:
    for servers in (kafka, "127.0.0.1:9"):
        missing = Said(servers, "test.missing", partitions=1)
        async with no_leaked_tasks():
            with pytest.raises(EventsUnavailableError, match=r"'test.missing' cannot be read"):
                async with missing.reading(within=2.0):
                    pass


@pytest.mark.xdist_group("kafka")
async def test_a_broker_that_freezes_is_waited_for_or_given_up(own_broker: Broker) -> None:
    async with (
        said_on(own_broker.servers) as said,
        said.reading(within=1.5, session_seconds=3.0) as stream,
        said.reading("others", within=1.5, session_seconds=3.0, patience=0.1) as impatient,
    ):
        await said.say((ONE, 1), (ONE, 2))
        assert await given(stream, 1) == await given(impatient, 1) == [(ONE, 1)]
        with own_broker.paused():
            await eventually(lambda: stream.state.rebuilds >= 1, within=SOON, what="a consumer thrown away")
            assert await given(stream, 0) == []
            with pytest.raises(EventsUnavailableError, match=r"for 0.1 s"):
                await given(impatient, 2)
        await said.say((ONE, 3))
        assert await given(stream, 2) == [(ONE, 2), (ONE, 3)]
