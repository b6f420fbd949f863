"""The broker is away under load: everybody else goes on, and afterwards the relay catches up alone, and fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import pytest
import structlog

from events.codec import EventCodec
from scripts.kafka.broker import Broker
from tests.support.http_load import EVENTS_EACH, http_load
from tests.support.http_server import server_process
from tests.support.kafka import read_topic
from tests.support.published import all_published
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("kafka")  # the module has a broker of its own

log = structlog.get_logger(__name__)

LATER = 40.0
LIVE_SECONDS = 0.5
"""What is published within this time of its happening is no backlog."""
FASTER = 3.0
GOES_ON = 0.7
"""Part of the executions per second that is left while the broker is away; among other tests they are not steady."""


@dataclass(frozen=True)
class Trial:
    """How long it is away, and what is submitted meanwhile."""

    normal_seconds: float
    seconds: float
    per_second: float
    slowest: float
    """Seconds that an execution may take until its end is answered: little of the time that the broker is away."""
    batch_limit: int
    """So small that the backlog takes several batches, or there is no rate."""


SHORT = Trial(normal_seconds=1.0, seconds=2.0, per_second=30.0, slowest=10.0, batch_limit=100)
LONG = Trial(normal_seconds=10.0, seconds=30.0, per_second=30.0, slowest=10.0, batch_limit=1_000)


@pytest.mark.timeout(180)  # a broker's start takes long where all processors are used
@pytest.mark.parametrize("trial", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
async def test_everybody_goes_on_and_the_relay_catches_up(
    own_broker: Broker, database_url: str, sql: AnyConnection, trial: Trial
) -> None:
    topic, servers = f"test.{uuid4().hex}", own_broker.servers
    settings = {"kafka_bootstrap_servers": servers, "kafka_events_topic": topic, "kafka_timeout_seconds": 2}
    settings |= {"relay_batch_limit": trial.batch_limit}
    async with server_process(database_url, **settings) as server:
        async with http_load(server.url, trial.per_second) as load:
            await eventually(lambda: load.ended, within=LATER, what="the first end")
            began = time.time()
            await asyncio.sleep(trial.normal_seconds)
            gone = time.time()
            own_broker.kill()
            await asyncio.sleep(trial.seconds)
            away_until = time.time()
            await asyncio.to_thread(own_broker.start)
            back = time.time()
            await caught_up(sql, back)
        found = await all_published(servers, topic, sql, within=LATER)
    normally, meanwhile = load.per_second(began, gone), load.per_second(gone, away_until)
    assert meanwhile > GOES_ON * normally
    assert load.slowest(gone, away_until) < trial.slowest
    sent = await sending_times(servers, topic)
    assert not any(gone + LIVE_SECONDS < at < away_until for _, at in sent), "the broker was not away"
    rate, waited = drained(sent, away_until)
    live = EVENTS_EACH * normally
    log.info(
        "measured",
        away_seconds=round(back - gone, 1),
        published_again_after=round(waited - back, 1),
        drained_per_second=round(rate),
        live_per_second=round(live),
        executions_per_second=(round(normally), round(meanwhile)),
        slowest_answers=(round(load.slowest(began, gone), 2), round(load.slowest(gone, away_until), 2)),
        repeats=found.repeats,
        events=len(found.events),
    )
    assert rate > FASTER * live


async def caught_up(sql: AnyConnection, since: float) -> None:
    """Until what happens is published at once: the cursor has seen an event of this moment, or a later one."""

    async def has() -> bool | None:
        latest = await sql.fetchval(
            "SELECT extract(epoch FROM max(occurred_at))::float8 FROM execution_events, relay_cursors"
            " WHERE xid < pg_snapshot_xmin(position::pg_snapshot)"
        )
        return latest is not None and latest > max(since, time.time() - LIVE_SECONDS)

    await eventually(has, within=LATER, what="the relay has caught up")


async def sending_times(servers: str, topic: str) -> Sequence[tuple[float, float]]:
    """Of each record when its event happened and when it was sent, in the order of sending."""
    codec = EventCodec()
    times = []
    for record in await read_topic(servers, topic):
        happened = codec.decode(record.value, record.headers).time
        assert happened is not None
        times.append((happened.timestamp(), record.timestamp / 1_000))
    return sorted(times, key=lambda pair: pair[1])


def drained(sent: Sequence[tuple[float, float]], back: float) -> tuple[float, float]:
    """Events per second from the first one published after the outage to the first that had not waited; and when the
    first one was.
    """
    after = [pair for pair in sent if pair[1] > back]
    first = after[0][1]
    until = next(at for happened, at in after if at - happened < LIVE_SECONDS)
    backlog = [pair for pair in after if pair[1] < until]
    return len(backlog) / max(until - first, 0.001), first
