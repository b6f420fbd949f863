"""The relay to a real broker: whatever dies or stands still, the topic ends as the log, in order, repeats dropped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from uuid import uuid4

import asyncpg
import pytest
import structlog

from scripts.kafka.broker import Broker
from tests.support.delayed_writers import DelayedWriters, log_of
from tests.support.kafka import delete_topics
from tests.support.published import all_published
from tests.support.relay_process import relay_process
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("kafka")  # the module has a broker of its own

log = structlog.get_logger(__name__)

SOON = 30.0
LATER = 120.0


@dataclass(frozen=True)
class Trial:
    """How much, and how often it is disturbed."""

    events: int
    kills: int
    pauses: int
    pause_seconds: float
    restarts: int
    delay: float
    """Longest delay of a commit: with it, how long the writers take."""
    most_repeated: float
    """Share of the events. What one death repeats is that of a moment, so of many events it is little."""


SHORT = Trial(events=3_000, kills=2, pauses=1, pause_seconds=1.0, restarts=0, delay=0.3, most_repeated=0.2)
LONG = Trial(events=50_000, kills=6, pauses=2, pause_seconds=5.0, restarts=1, delay=0.4, most_repeated=0.02)


def new_topic() -> str:
    """A name for the relay to create."""
    return f"test.{uuid4().hex}"


@pytest.fixture
async def events_topic(kafka: str) -> AsyncIterator[str]:
    """One on the shared broker."""
    name = new_topic()
    yield name
    await delete_topics(kafka, [name])


async def test_everything_is_published_once_and_in_order_in_quiet_times(
    kafka: str, events_topic: str, database_url: str, sql: AnyConnection, chance: Random
) -> None:
    topic = events_topic
    writers = DelayedWriters(database_url, chance, events=2_000, delay=0.1)
    async with relay_process(database_url, kafka, topic, relay_niceness=6) as relay:
        assert (await relay.ready())["event"] == "ready"
        assert os.getpriority(os.PRIO_PROCESS, relay.process.pid) == max(6, os.getpriority(os.PRIO_PROCESS, 0))
        await DelayedWriters(database_url, chance, events=10).run()
        await all_published(kafka, topic, sql, within=SOON)  # from here on it reads while they write
        await writers.run()
        found = await all_published(kafka, topic, sql, within=SOON)
        assert await relay.stop() == 0
    assert writers.rolled_back > 0
    assert found.repeats == 0


@pytest.mark.parametrize("trial", [SHORT, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_killed_and_paused_it_loses_nothing(
    own_broker: Broker, database_url: str, sql: AnyConnection, chance: Random, trial: Trial
) -> None:
    topic, servers = new_topic(), own_broker.servers
    writers = DelayedWriters(database_url, chance, events=trial.events, delay=trial.delay)
    settings = {"kafka_timeout_seconds": 3}
    naive = NaiveReader(database_url)
    writing = asyncio.create_task(writers.run(), name="writers")
    naively = asyncio.create_task(naive.run(), name="naive reader")
    disturbing = asyncio.create_task(disturb(own_broker, trial, writers), name="disturb")
    for number in range(1, trial.kills + 1):
        async with relay_process(database_url, servers, topic, **settings) as relay:
            await relay.ready()
            await has_written(writers, trial.events * number // (trial.kills + 1))
            await relay.kill()
    async with relay_process(database_url, servers, topic, **settings):
        await asyncio.gather(writing, disturbing)
        found = await all_published(servers, topic, sql, within=LATER)
    naively.cancel()
    wanted = await log_of(sql)
    log.info("measured", events=len(wanted), repeats=found.repeats, missed_naively=len(wanted - naive.read))
    assert naive.read < wanted, "a reader that cannot cope has coped: nothing was tested"
    assert found.repeats <= trial.most_repeated * trial.events


async def disturb(broker: Broker, trial: Trial, writers: DelayedWriters) -> None:
    """Pauses and restarts, spread over the writing, each in the middle between two kills."""
    steps = trial.pauses + trial.restarts
    for step in range(1, steps + 1):
        await has_written(writers, int(trial.events * (step - 0.5) / (trial.kills + 1)))
        if step <= trial.pauses:
            with broker.paused():
                await asyncio.sleep(trial.pause_seconds)
        else:
            await asyncio.to_thread(broker.restart)


async def has_written(writers: DelayedWriters, events: int) -> None:
    await eventually(lambda: writers.committed >= events, within=LATER, what=f"{events} events committed")


class NaiveReader:
    """The control: follows the log by the highest transaction it has seen, and misses what commits behind it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.read: set[tuple[str, int]] = set()

    async def run(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            last = "0"
            while True:
                rows = await connection.fetch(
                    "SELECT execution_id, version, xid::text FROM execution_events WHERE xid > $1::text::xid8"
                    " ORDER BY xid",
                    last,
                )
                self.read |= {(str(row["execution_id"]), row["version"]) for row in rows}
                last = rows[-1]["xid"] if rows else last
                await asyncio.sleep(0.01)
        finally:
            await connection.close()


@pytest.mark.parametrize("events", [2_000, pytest.param(50_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_two_relays_forced_onto_one_cursor_repeat_and_do_nothing_worse(
    kafka: str, events_topic: str, sql: AnyConnection, chance: Random, events: int, *, database_url: str
) -> None:
    topic = events_topic
    writers = DelayedWriters(database_url, chance, events=events, delay=0.1)
    async with (
        relay_process(database_url, kafka, topic) as one,
        relay_process(database_url, kafka, topic) as other,
    ):
        assert {(await one.ready())["active"], (await other.ready())["active"]} == {True, False}
        expiring = asyncio.create_task(expire_leases(database_url), name="expire leases")
        await writers.run()
        found = await all_published(kafka, topic, sql, within=SOON)
        expiring.cancel()
        await asyncio.wait([expiring])
    epoch = await sql.fetchval("SELECT epoch FROM relay_cursors")
    log.info("measured", events=len(found.events), repeats=found.repeats, epochs=epoch)
    assert epoch > 2, "nobody took it from the other"


async def expire_leases(url: str) -> None:
    """Whoever asks for the lease is given it, whether or not somebody holds it."""
    connection = await asyncpg.connect(url)
    try:
        while True:
            await connection.execute("UPDATE relay_cursors SET expires_at = '-infinity'")
            await asyncio.sleep(0.01)
    finally:
        await connection.close()
