"""Commands over Kafka while consumers come and go, commands come twice, brokers freeze, and PostgreSQL is away.

Each valid command has one effect, and for each delivery a reply that says the same; what is none is a dead letter; and
the committed offset is never beyond a command that was not worked off.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import pytest
from aiokafka import TopicPartition

from events.codec import Record
from events.commands import CommandBusError
from execution.command_consumer import CommandConsumer, open_command_consumer
from execution.embedded import EmbeddedPostgres
from execution.ids import new_id
from execution.keys import OWN_NAME, KeyRing
from execution.service import ExecutionService
from execution.wiring import open_service
from scripts.kafka.broker import Broker
from tests.support.checker import check_database
from tests.support.kafka import consumer, delete_topics, producer, read_topic
from tests.support.kafka_commands import CommandTopics, Reply, carrying_out, command, signer
from tests.support.service import PATIENCE, short_settings
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.own_broker]  # the module has a broker of its own

API_KEY = "k" * 40
STEPS = ("create", "start", "pause", "resume", "cancel")
SOON, LATER = 40.0, 240.0
Place = tuple[int, int]
"""Partition and offset."""


@dataclass(frozen=True)
class Trial:
    """How many commands, and how often the consumers change."""

    commands: int
    changes_every: float
    least_changes: int
    within: float


SHORT = Trial(commands=300, changes_every=0.7, least_changes=1, within=SOON)
LONG = Trial(commands=5_000, changes_every=2.0, least_changes=5, within=LATER)


@pytest.fixture
async def command_topics(kafka: str) -> AsyncIterator[CommandTopics]:
    topics = CommandTopics(kafka)
    yield topics
    await delete_topics(kafka, topics.all)


@asynccontextmanager
async def a_service(url: str, topics: CommandTopics, **changes: Any) -> AsyncIterator[tuple[ExecutionService, KeyRing]]:
    """One of its own, as another process would have it."""
    settings = short_settings(url, **topics.settings | {"api_key": API_KEY} | changes)
    async with open_service(settings, relay=False) as service, KeyRing(service.repository.db, settings) as keys:
        yield service, keys


@dataclass
class Deliveries:
    """What was sent: commands by the place of each delivery, and what is none."""

    topics: CommandTopics
    commands: dict[Place, str] = field(default_factory=dict)
    malformed: set[Place] = field(default_factory=set)

    async def send(self, sender: Any, record: Record, command_id: str | None) -> None:
        async with asyncio.timeout(PATIENCE):
            sent = await sender.send_and_wait(self.topics.commands, record.value, record.key, headers=record.headers)
        place = (sent.partition, sent.offset)
        if command_id is None:
            self.malformed.add(place)
        else:
            self.commands[place] = command_id


class Planner:
    """Brings executions through their steps, each in order, many at the same time; some commands it sends twice."""

    def __init__(self, topics: CommandTopics, chance: Random, executions: int) -> None:
        self.deliveries = Deliveries(topics)
        self._topics, self._chance = topics, chance
        self.ids = [new_id() for _ in range(executions)]

    async def run(self) -> None:
        async with producer(self._topics.servers, linger_ms=2) as sender:
            for first in range(0, len(self.ids), 50):
                some = self.ids[first : first + 50]
                sent: list[tuple[Record, str]] = []
                for step in STEPS:
                    sent += await self._send_step(sender, some, step)
                again = [one for one in sent if self._chance.random() < 0.15]
                await asyncio.gather(*(self.deliveries.send(sender, *one) for one in again))

    async def _send_step(self, sender: Any, some: list[UUID], step: str) -> list[tuple[Record, str]]:
        sent = []
        for execution_id in some:
            data = {"kind": "noop", "id": str(execution_id), "start": False} if step == "create" else {"reason": step}
            envelope = command(step, execution_id, data, command_id=f"{step} of {execution_id}".replace(" ", "-"))
            sent.append((signer(OWN_NAME).sign(self._topics.commands, envelope.to_record()), envelope.id))
        twice = [one for one in sent if self._chance.random() < 0.15]
        none = [Record(record.key, b"nonsense", []) for record, _ in sent if self._chance.random() < 0.05]
        await asyncio.gather(
            *(self.deliveries.send(sender, record, command_id) for record, command_id in sent + twice),
            *(self.deliveries.send(sender, record, None) for record in none),
        )
        return sent


@dataclass
class Sample:
    """How far was committed, and after that how far replies and dead letters had come."""

    committed: dict[int, int]
    answered: dict[TopicPartition, int]


class Watcher:
    """Looks at what is committed, again and again: what is behind it must have been answered by then."""

    def __init__(self, topics: CommandTopics) -> None:
        self._topics = topics
        self.samples: list[Sample] = []

    async def run(self) -> None:
        # A member of the group would take partitions: this one only asks.
        async with consumer(self._topics.servers, group_id=self._topics.name) as reader:
            own = [TopicPartition(self._topics.commands, number) for number in range(3)]
            answers = [TopicPartition(self._topics.replies, number) for number in range(3)]
            answers.append(TopicPartition(self._topics.dead_letters, 0))
            while True:
                async with asyncio.timeout(PATIENCE):
                    committed = {one.partition: await reader.committed(one) or 0 for one in own}
                    self.samples.append(Sample(committed, await reader.end_offsets(answers)))
                await asyncio.sleep(0.2)


async def come_and_go(url: str, topics: CommandTopics, chance: Random, every: float, done: asyncio.Event) -> int:
    """Consumers of services of their own: one joins, one leaves in order or without a word; one is always there."""
    changes = 0
    async with AsyncExitStack() as stack:
        services = [await stack.enter_async_context(a_service(url, topics)) for _ in range(3)]
        members: list[Member] = [await Member.join(*services[0])]
        free = services[1:] + services[:1]
        while not done.is_set():
            members.append(await Member.join(*free[changes % 3]))
            await asyncio.sleep(every)
            await members.pop(chance.randrange(len(members))).leave(in_order=chance.random() < 0.5)
            changes += 1
        for member in members:
            await member.leave(in_order=True)
    return changes


class Member:
    """A consumer of the group."""

    def __init__(self, stack: AsyncExitStack, running: asyncio.Task[None], one: CommandConsumer) -> None:
        self._stack, self._running, self._one = stack, running, one

    @classmethod
    async def join(cls, service: ExecutionService, keys: KeyRing) -> Member:
        stack = AsyncExitStack()
        one = await stack.enter_async_context(open_command_consumer(service, keys))
        return cls(stack, asyncio.create_task(one.run(), name="member"), one)

    async def leave(self, *, in_order: bool) -> None:
        async with asyncio.timeout(PATIENCE * 2):
            if in_order:
                await self._one.finish()
            else:
                self._running.cancel()
            await asyncio.wait([self._running])
            await self._stack.aclose()


@pytest.mark.parametrize("trial", [SHORT, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_each_command_once_whoever_comes_and_goes(
    kafka: str, command_topics: CommandTopics, database_url: str, chance: Random, trial: Trial
) -> None:
    planner = Planner(command_topics, chance, trial.commands // len(STEPS))
    deliveries, watcher, done = planner.deliveries, Watcher(command_topics), asyncio.Event()
    async with a_service(database_url, command_topics) as (service, keys):
        async with carrying_out(service, keys):
            pass  # the topics are there now
        watching = asyncio.create_task(watcher.run(), name="watcher")
        changing = asyncio.create_task(
            come_and_go(database_url, command_topics, chance, trial.changes_every, done), name="members"
        )
        await planner.run()
        await eventually(lambda: everything_committed(watcher, deliveries), within=trial.within, what="all committed")
        done.set()
        changes = await changing
        watching.cancel()
        await asyncio.wait([watching])
        replies, letters = await answers_of(command_topics)
        await one_effect_each(service, planner.ids)
    one_reply_for_each_delivery(deliveries, replies)
    assert set(letters) == deliveries.malformed
    never_beyond_what_was_worked_off(watcher.samples, replies, letters)
    assert changes >= trial.least_changes
    assert len(deliveries.commands) > trial.commands * 1.15
    assert deliveries.malformed
    await check_database(database_url)


def everything_committed(watcher: Watcher, deliveries: Deliveries) -> bool:
    places = [*deliveries.commands, *deliveries.malformed]
    ends = {number: 1 + max((offset for one, offset in places if one == number), default=-1) for number in range(3)}
    return bool(watcher.samples) and watcher.samples[-1].committed == ends


@dataclass(frozen=True)
class Answered:
    """A reply or a dead letter: where it is."""

    at: TopicPartition
    offset: int
    reply: Reply | None = None


async def answers_of(topics: CommandTopics) -> tuple[dict[Place, list[Answered]], dict[Place, list[Answered]]]:
    """Replies and dead letters, by the place of what they are about."""
    replies: dict[Place, list[Answered]] = defaultdict(list)
    letters: dict[Place, list[Answered]] = defaultdict(list)
    for record in await read_topic(topics.servers, topics.replies):
        reply = Reply.of(record)
        _, partition, offset = reply.headers["ce_id"].decode().rsplit(":", 2)
        at = TopicPartition(record.topic, record.partition)
        replies[int(partition), int(offset)].append(Answered(at, record.offset, reply))
    for record in await read_topic(topics.servers, topics.dead_letters):
        headers = dict(record.headers)
        place = int(headers["dlq-partition"]), int(headers["dlq-offset"])
        letters[place].append(Answered(TopicPartition(record.topic, record.partition), record.offset))
    return replies, letters


def one_reply_for_each_delivery(deliveries: Deliveries, replies: dict[Place, list[Answered]]) -> None:
    assert set(replies) == set(deliveries.commands)
    outcomes: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for place, command_id in deliveries.commands.items():
        for one in replies[place]:
            assert one.reply is not None
            document = one.reply.document
            assert document.command_id == command_id
            outcomes[command_id].append((document.status, document.execution))
    for command_id, said in outcomes.items():
        assert all(one == said[0] for one in said), f"{command_id} was answered differently"
        assert said[0][0] == (202 if command_id.startswith("create") else 200), said[0]


async def one_effect_each(service: ExecutionService, ids: list[UUID]) -> None:
    for execution_id in ids:
        states = await service.get_state_history(execution_id, limit=100)
        went = [one.new_state.value for one in reversed(states)]
        assert went == ["CREATED", "PENDING", "PAUSED", "PENDING", "CANCELLED"], f"{execution_id}: {went}"


def never_beyond_what_was_worked_off(
    samples: list[Sample], replies: dict[Place, list[Answered]], letters: dict[Place, list[Answered]]
) -> None:
    assert len(samples) > 3
    for sample in samples:
        for partition, committed in sample.committed.items():
            for offset in range(committed):
                answered = [*replies.get((partition, offset), ()), *letters.get((partition, offset), ())]
                assert any(one.offset < sample.answered[one.at] for one in answered), (partition, offset)


async def test_a_frozen_broker(own_broker: Broker, database_url: str) -> None:
    topics = CommandTopics(own_broker.servers)
    async with (
        a_service(database_url, topics, kafka_timeout_seconds=1) as (service, keys),
        carrying_out(service, keys) as running,
        topics.client(OWN_NAME) as client,
    ):
        before = await client.create({"kind": "noop", "start": False})
        assert before.execution is not None
        execution_id = UUID(before.execution["id"])
        with own_broker.paused():
            sending = asyncio.create_task(client.send("start", execution_id, timeout=SOON), name="start")
            await asyncio.sleep(3.0)  # past every deadline of the consumer and of the sender
            assert not sending.done()
        assert (await sending).is_accepted
        assert (await client.send("cancel", execution_id, timeout=SOON)).is_accepted
        await eventually(lambda: running.state.problem is None, within=SOON, what="the consumer is well again")
    await check_database(database_url)


async def test_a_command_waits_for_postgresql_and_is_no_dead_letter(
    own_server: EmbeddedPostgres, command_topics: CommandTopics
) -> None:
    async with (
        a_service(own_server.url, command_topics) as (service, keys),
        carrying_out(service, keys) as running,
        command_topics.client(OWN_NAME) as client,
    ):
        assert (await client.create({"kind": "noop"}, timeout=SOON)).is_accepted
        await own_server.stop()
        sending = [asyncio.create_task(client.create({"kind": "noop"}, timeout=SOON)) for _ in range(20)]
        await eventually(lambda: running.tally.waiting == 20, within=SOON, what="the commands wait")
        assert running.tally.waiting_since is not None
        await own_server.start()
        replies = await asyncio.gather(*sending)
        assert all(one.status == 202 for one in replies)
        assert await command_topics.dead() == []
        assert running.state.rebuilds == 0
        await eventually(lambda: running.tally.waiting_since is None, within=SOON, what="nothing waits")
    await check_database(own_server.url)


async def test_who_got_no_reply_sends_it_again(database_url: str, command_topics: CommandTopics) -> None:
    async with a_service(database_url, command_topics) as (service, keys):
        async with carrying_out(service, keys):
            pass  # the topics are there now
        async with command_topics.client(OWN_NAME) as client:
            wanted = {"kind": "noop", "id": str(new_id())}
            with pytest.raises(CommandBusError):
                await client.create(wanted, command_id="once", timeout=1.0)
            async with carrying_out(service, keys):
                reply = await client.create(wanted, command_id="once", timeout=SOON)
        assert (reply.status, reply.replayed) == (202, True)
        assert (await service.history(UUID(wanted["id"])))[0].version == 1
