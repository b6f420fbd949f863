"""Commands over Kafka in great numbers: what sends them, what watches what is committed, and what must hold in the end.

Each valid command has one effect, and for each delivery a reply that says the same; what is none is a dead letter; and
the committed offset is never beyond a command that was not worked off.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from aiokafka import TopicPartition

from events.codec import Record
from execution.ids import new_id
from execution.keys import OWN_NAME
from execution.service import ExecutionService
from tests.support.kafka import consumer, producer, read_topic
from tests.support.kafka_commands import CommandTopics, Reply, command, signer
from tests.support.service import PATIENCE

STEPS = ("create", "start", "pause", "resume", "cancel")
Place = tuple[int, int]
"""Partition and offset."""


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
