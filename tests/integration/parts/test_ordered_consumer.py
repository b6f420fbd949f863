"""`OrderedConsumer` against a real broker: order, bounds, what is committed, and how partitions change hands."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from events import consumer_session
from events.consumer_session import Consuming
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic
from events.ordered_consumer import OrderedConsumer
from tests.support.kafka import committed, create_topic, delete_topics, producer
from tests.support.waiting import eventually, no_leaked_tasks

SOON = 20.0
PARTITIONS = 4


@pytest.fixture
async def topic(kafka: str) -> AsyncIterator[str]:
    name = await create_topic(kafka, partitions=PARTITIONS)
    yield name
    await delete_topics(kafka, [name])


class Worker:
    """Works off records when it is let to, and keeps a book of it."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun: list[bytes] = []
        self.done: list[bytes] = []
        self.running = 0
        self.most = 0
        self.running_keys: Counter[bytes] = Counter()
        self.fails_at: bytes | None = None
        self.overtaken = False

    async def handle(self, record: Any) -> None:
        self.begun.append(record.value)
        self.running += 1
        self.running_keys[record.key] += 1
        self.overtaken |= self.running_keys[record.key] > 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            if record.value == self.fails_at:
                self.fails_at = None
                raise LookupError("once")
            self.done.append(record.value)
        finally:
            self.running -= 1
            self.running_keys[record.key] -= 1

    async def has_begun(self, count: int) -> None:
        await eventually(lambda: len(self.begun) >= count, within=SOON, what=f"{count} records have begun")

    async def has_done(self, count: int) -> None:
        await eventually(lambda: len(set(self.done)) >= count, within=SOON, what=f"{count} records are done")


@asynccontextmanager
async def consuming(kafka: str, topic: str, worker: Worker, **changes: Any) -> AsyncIterator[OrderedConsumer]:
    """A consumer that has its share of the partitions; it ends in order."""
    wanted = Topic(name=topic, partitions=PARTITIONS, retention_seconds=604_800)
    what = Consuming(topics=[wanted], group=topic, **changes)
    one = OrderedConsumer(KafkaConnection(bootstrap_servers=(kafka,)), what, worker.handle)
    running = asyncio.create_task(one.run(), name="consumer under test")
    try:
        async with asyncio.timeout(SOON):
            await one.ready.wait()
        yield one
    finally:
        async with asyncio.timeout(SOON):
            await one.finish()
            await running


async def send(kafka: str, topic: str, count: int, keys: int) -> None:
    """Records `0 ..`, spread over so many keys."""
    async with producer(kafka) as sender, asyncio.timeout(SOON):
        sent = [await sender.send(topic, b"%d" % one, key=b"key %d" % (one % keys)) for one in range(count)]
        await asyncio.gather(*sent)


async def test_each_key_in_order_and_others_at_the_same_time(kafka: str, topic: str) -> None:
    worker = Worker()
    await send(kafka, topic, 300, keys=10)
    async with consuming(kafka, topic, worker, in_flight_limit=40):
        await worker.has_done(300)
    by_key: dict[int, list[int]] = defaultdict(list)
    for value in map(int, worker.done):
        by_key[value % 10].append(value)
    assert all(values == sorted(values) for values in by_key.values())
    assert not worker.overtaken
    assert 1 < worker.most <= 10
    assert len(worker.done) == 300
    assert await committed(kafka, topic, topic, partitions=PARTITIONS) == 300


async def test_no_more_at_once_than_there_is_room_for(kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_session, "ALIVE_SECONDS", 0.05)  # it says so many times that it is there
    worker = Worker()
    worker.gate.clear()
    await send(kafka, topic, 60, keys=60)
    async with no_leaked_tasks(), consuming(kafka, topic, worker, in_flight_limit=7) as one:
        await worker.has_begun(7)
        await asyncio.sleep(0.3)
        assert (worker.running, one.state.in_flight) == (7, 7)
        worker.gate.set()
        await worker.has_done(60)
    assert worker.most == 7


async def test_what_fails_comes_again_and_is_not_committed_past(kafka: str, topic: str) -> None:
    worker = Worker()
    worker.fails_at = b"5"
    await send(kafka, topic, 40, keys=4)
    async with consuming(kafka, topic, worker) as one:
        await worker.has_done(40)
        assert one.state.rebuilds == 1
        assert worker.done.index(b"5") < worker.done.index(b"9"), "one of the same key has overtaken it"
        await eventually(lambda: one.state.problem is None, within=SOON, what="it is well again")
    assert await committed(kafka, topic, topic, partitions=PARTITIONS) == 40


async def test_a_partition_changes_hands_when_what_is_under_way_has_ended(kafka: str, topic: str) -> None:
    first, second = Worker(), Worker()
    first.gate.clear()
    await send(kafka, topic, 20, keys=20)
    async with consuming(kafka, topic, first, in_flight_limit=20) as one:
        await first.has_begun(20)
        seen = asyncio.Event()
        joining = asyncio.create_task(joined(kafka, topic, second, seen), name="second consumer")
        await eventually(lambda: one.state.assigned == 0, within=SOON, what="the first one is asked to give way")
        await asyncio.sleep(1.0)  # what the second one would take too early it would take now
        assert second.begun == []
        first.gate.set()
        await first.has_done(20)
        seen.set()
        await joining
    assert sorted(map(int, first.done)) == list(range(20))
    assert second.begun == []


async def joined(kafka: str, topic: str, worker: Worker, until: asyncio.Event) -> None:
    """A member until then, once it has its share."""
    async with consuming(kafka, topic, worker) as one:
        await eventually(lambda: one.state.assigned > 0, within=SOON, what="it has a share")
        await until.wait()


async def test_what_does_not_end_in_time_is_broken_off_and_given_to_the_next(kafka: str, topic: str) -> None:
    stuck, second = Worker(), Worker()
    stuck.gate.clear()
    await send(kafka, topic, 20, keys=20)
    async with consuming(kafka, topic, stuck, handover_seconds=0.5):
        await stuck.has_begun(20)
        async with consuming(kafka, topic, second) as other:
            await eventually(lambda: other.state.assigned > 0, within=SOON, what="it has a share")
            await eventually(lambda: len(second.done) > 0, within=SOON, what="it has been given what was broken off")
            assert stuck.done == []
            stuck.gate.set()
            await eventually(
                lambda: len({*stuck.done, *second.done}) == 20, within=SOON, what="everything is done by somebody"
            )


async def test_members_that_come_and_go_lose_nothing(kafka: str, topic: str, chance: Random) -> None:
    worker = Worker()
    async with consuming(kafka, topic, worker):
        for _ in range(3):
            sending = asyncio.create_task(send(kafka, topic, 100, keys=7), name="sender")
            async with consuming(kafka, topic, worker):
                await asyncio.sleep(chance.random() * 0.3)
            await sending
        await worker.has_done(100)
        await eventually(lambda: len(worker.done) >= 300, within=SOON, what="every record was worked off")
    assert not worker.overtaken
    assert await committed(kafka, topic, topic, partitions=PARTITIONS) == 300
