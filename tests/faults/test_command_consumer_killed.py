"""A process that carries out commands is killed in the middle of them: another one goes on from what it committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random

import pytest

from execution.command_answers import HOLD_SECONDS
from execution.service import ExecutionService
from tests.support.checker import check_database
from tests.support.cli_process import cli_process
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
from tests.support.http_server import server_process
from tests.support.kafka import administrator, delete_topics
from tests.support.kafka_commands import CommandTopics
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import environment

pytestmark = pytest.mark.xdist_group("kafka")

API_KEY = "k" * 40
EXECUTIONS = 60
SOON = 40.0
AFTER_ITS_DEATH = HOLD_SECONDS + 10.0
"""Its partitions are given away when its session is over, and so is then what it held; and a busy machine."""


@pytest.fixture
async def command_topics(kafka: str) -> AsyncIterator[CommandTopics]:
    topics = CommandTopics(kafka)
    yield topics
    await delete_topics(kafka, [*topics.all, f"{topics.name}.events"])


async def test_each_command_once_and_answered(
    command_topics: CommandTopics, database_url: str, sql: AnyConnection, client: ExecutionService, chance: Random
) -> None:
    settings = command_topics.settings | {"api_key": API_KEY, "kafka_events_topic": f"{command_topics.name}.events"}
    planner, watcher = Planner(command_topics, chance, EXECUTIONS), Watcher(command_topics)
    deliveries = planner.deliveries
    async with (
        server_process(database_url, "--no-worker", "--no-relay", **settings) as victim,
        asyncio.TaskGroup() as group,
    ):
        await eventually(lambda: topics_are_there(command_topics), within=SOON, what="it consumes")
        watching = group.create_task(watcher.run(), name="watcher")
        sending = group.create_task(planner.run(), name="planner")
        await eventually(lambda: committed(watcher) > 10, within=SOON, what="it is in the middle")
        await victim.kill()
        begun, killed_at = await begun_and_not_ended(sql), time.monotonic()
        async with cli_process("commands", environment(database_url, **settings)) as successor:
            await sending
            await successor.ready()
            await eventually(lambda: everything_committed(watcher, deliveries), within=SOON, what="all is committed")
            assert time.monotonic() - killed_at < AFTER_ITS_DEATH, "somebody has waited for the dead one's reservations"
            assert await successor.stop() == 0
        watching.cancel()
    replies, letters = await answers_of(command_topics)
    await one_effect_each(client, planner.ids)
    one_reply_for_each_delivery(deliveries, replies)
    repeated = sum(len(some) > 1 for some in replies.values())
    assert begun + repeated > 0, "it was not killed in the middle of anything"
    assert set(letters) == deliveries.malformed
    never_beyond_what_was_worked_off(watcher.samples, replies, letters)
    assert len(deliveries.commands) > EXECUTIONS * len(STEPS)
    await check_database(database_url)


async def begun_and_not_ended(sql: AnyConnection) -> int:
    """How many commands it held when it was killed."""
    begun: int = await sql.fetchval(
        "SELECT count(*) FROM idempotency_keys WHERE answered_at IS NULL AND locked_until > clock_timestamp()"
    )
    return begun


async def topics_are_there(topics: CommandTopics) -> bool | None:
    async with administrator(topics.servers) as admin:
        return set(topics.all) <= set(await admin.list_topics()) or None


def committed(watcher: Watcher) -> int:
    return sum(watcher.samples[-1].committed.values()) if watcher.samples else 0
