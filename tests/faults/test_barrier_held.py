"""Somebody leaves a transaction open in another database: nothing waits for it, and the metrics say whose it is."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

import asyncpg
import httpx
import pytest
import structlog

from execution.embedded import EmbeddedPostgres
from execution.repository.log_position import LogPosition
from tests.support.database import with_database
from tests.support.deliveries import Deliveries, following
from tests.support.http_load import http_load
from tests.support.http_server import server_process
from tests.support.server_log import percentile
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.own_broker]

log = structlog.get_logger(__name__)

SOON = 20.0
_HELD = re.compile(r"execution_relay_barrier_held_seconds\{(.*)\} (\S+)")


@dataclass(frozen=True)
class Trial:
    """How long, and what delivery may then take."""

    normal_seconds: float
    """Before, and again afterwards: a machine that others use is not the same for minutes."""
    held_seconds: float
    piece_seconds: float
    per_second: float
    most_slower: float
    """The median of the p99s of all pieces beside that of normal times; among other tests this says nothing."""


SHORT = Trial(normal_seconds=1.0, held_seconds=4.0, piece_seconds=0.5, per_second=20.0, most_slower=float("inf"))
LONG = Trial(normal_seconds=30.0, held_seconds=60.0, piece_seconds=5.0, per_second=40.0, most_slower=2.0)


@dataclass(frozen=True)
class Holder:
    """A transaction that has written, and is left open."""

    pid: int
    xid: int


@asynccontextmanager
async def idle_in_transaction(server_url: str) -> AsyncIterator[Holder]:
    """In another database of the server; ended with the block."""
    administration = await asyncpg.connect(server_url)
    await administration.execute("CREATE DATABASE another")
    await administration.close()
    # The embedded server ends such sessions after a while; others do not.
    settings = {"idle_in_transaction_session_timeout": "0", "application_name": "forgetful"}
    connection = await asyncpg.connect(with_database(server_url, "another"), server_settings=settings)
    try:
        await connection.execute("CREATE TABLE written (number int)")
        async with connection.transaction():
            await connection.execute("INSERT INTO written VALUES (1)")
            xid = await connection.fetchval("SELECT pg_current_xact_id()::text::bigint")
            yield Holder(connection.get_server_pid(), xid)
    finally:
        await connection.close()


async def cursor_of(sql: AnyConnection) -> LogPosition:
    return LogPosition.parse(await sql.fetchval("SELECT position FROM relay_cursors"))


async def held_by(client: httpx.AsyncClient) -> tuple[str, float]:
    """The labels and the value of the metric; no seconds if there is none."""
    match = _HELD.search((await client.get("/metrics")).text)
    return (match[1], float(match[2])) if match else ("", 0.0)


@pytest.mark.parametrize("trial", [SHORT, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_nothing_waits_for_it(own_server: EmbeddedPostgres, kafka: str, topic: str, trial: Trial) -> None:
    settings = {"kafka_bootstrap_servers": kafka, "kafka_events_topic": topic}
    sql = await asyncpg.connect(own_server.url)
    async with (
        server_process(own_server.url, **settings) as server,
        following(kafka, topic) as deliveries,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        async with http_load(server.url, trial.per_second):
            await eventually(lambda: len(deliveries.times) > 100, within=SOON, what="the relay publishes")
            began = time.time()
            await asyncio.sleep(trial.normal_seconds)
            async with idle_in_transaction(own_server.url) as holder:
                held = time.time()
                await asyncio.sleep(trial.held_seconds)
                labels, seconds = await held_by(client)
                assert (await cursor_of(sql)).xmin <= holder.xid, "the barrier was not held"
                ended = time.time()
            await is_past(sql, holder)
            past = time.time()
            await asyncio.sleep(trial.normal_seconds)
            over = time.time()
        happened = await sql.fetchval("SELECT count(*) FROM execution_events")
        await eventually(lambda: len(deliveries.times) >= happened, within=SOON, what="everything is delivered")
    await sql.close()
    assert f'application="forgetful",backend="{holder.pid}",database="another"' in labels
    assert 0.5 * trial.held_seconds < seconds <= ended - held + 1
    assert max(deliveries.delays(held, ended)) < 0.5 * trial.held_seconds
    normally = p99s(deliveries, began, held, trial) + p99s(deliveries, past, over, trial)
    meanwhile = p99s(deliveries, held, ended, trial)
    log.info("measured", normally=in_milliseconds(normally), meanwhile=in_milliseconds(meanwhile))
    whole = [*deliveries.delays(began, held), *deliveries.delays(past, over)], [*deliveries.delays(held, ended)]
    log.info("measured as a whole", normally_and_meanwhile=in_milliseconds([percentile(one, 0.99) for one in whole]))
    assert median(meanwhile) <= trial.most_slower * median(normally)


def p99s(deliveries: Deliveries, since: float, until: float, trial: Trial) -> list[float]:
    """Of the pieces between the two in which something happened: what else the machine does spoils some of them."""
    pieces = (
        deliveries.delays(since + number * trial.piece_seconds, since + (number + 1) * trial.piece_seconds)
        for number in range(max(1, int((until - since) / trial.piece_seconds)))
    )
    return [percentile(list(piece), 0.99) for piece in pieces if piece]


def in_milliseconds(seconds: Sequence[float]) -> list[float]:
    return [round(one * 1e3, 1) for one in seconds]


async def is_past(sql: AnyConnection, holder: Holder) -> None:
    """The cursor has caught up with what the transaction held back."""

    async def past() -> bool | None:
        return (await cursor_of(sql)).xmin > holder.xid

    await eventually(past, within=SOON, what="the cursor is past the transaction")
