"""Commands over Kafka while consumers come and go, commands come twice, brokers freeze, and PostgreSQL is away.

What must hold of them in the end stands in `tests.support.command_load`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

import pytest

from events.commands import CommandBusError
from execution.command_consumer import CommandConsumer, open_command_consumer
from execution.embedded import EmbeddedPostgres
from execution.ids import new_id
from execution.keys import OWN_NAME, KeyRing
from execution.service import ExecutionService
from execution.wiring import open_service
from scripts.kafka.broker import Broker
from tests.support.checker import check_database
from tests.support.command_load import (
    STEPS,
    Planner,
    Watcher,
    answers_of,
    everything_committed,
    never_beyond_what_was_worked_off,
    one_effect_each,
    one_reply_for_each_delivery,
)
from tests.support.kafka import delete_topics
from tests.support.kafka_commands import CommandTopics, carrying_out
from tests.support.service import PATIENCE, short_settings
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.own_broker]  # the module has a broker of its own

API_KEY = "k" * 40
SOON, LATER = 40.0, 240.0


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
