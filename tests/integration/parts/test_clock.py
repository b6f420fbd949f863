"""`DatabaseClock`: near the database's time and not ahead of it, however late answers come."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from execution.clock import MOST_DRIFT, DatabaseClock
from execution.repository.database import Database
from execution.wiring import open_service
from tests.support.cutting_proxy import cutting_proxy
from tests.support.service import PATIENCE, running_worker, short_settings
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually

START = datetime(2026, 1, 1, tzinfo=UTC)
LATE_SECONDS = 1.0
ESTIMATE = 0.25
"""Seconds that a quick answer takes on a busy machine."""


class Clocks:
    """A local clock that stands still until told, and a database's that runs beside it."""

    def __init__(self) -> None:
        self.local = 1_000.0
        self.ahead_by = 0.0
        self.clock = DatabaseClock(lambda: self.local)

    @property
    def true(self) -> datetime:
        return START + timedelta(seconds=self.local + self.ahead_by)

    def ask(self, there: float, back: float) -> None:
        """A question that takes so long to get there, and whose answer takes so long back."""
        asked_at = self.local
        self.local += there
        said = self.true
        self.local += back
        self.clock.synchronize(said, asked_at)

    @property
    def error(self) -> float:
        """Seconds that our clock is ahead."""
        return (self.clock.now() - self.true).total_seconds()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_the_first_answer_is_taken_and_the_clock_is_behind_by_its_way(clocks: Clocks) -> None:
    clocks.ask(0.3, 0.2)
    assert clocks.error == pytest.approx(-0.2, abs=1e-5)


def test_a_slow_answer_does_not_put_it_back(clocks: Clocks) -> None:
    clocks.ask(0.001, 0.001)
    before = clocks.clock.now()
    clocks.ask(0.001, 5.0)
    assert clocks.error == pytest.approx(-0.001, abs=MOST_DRIFT * 6)
    assert clocks.clock.now() > before


def test_a_quicker_answer_is_taken(clocks: Clocks) -> None:
    clocks.ask(0.001, 5.0)
    clocks.ask(3.0, 0.001)
    assert clocks.error == pytest.approx(-0.001, abs=1e-5)


@pytest.mark.parametrize("steps_by", [-600.0, -1.0, 1.0, 600.0])
def test_a_databases_clock_that_was_set_is_followed_at_once(clocks: Clocks, steps_by: float) -> None:
    clocks.ask(0.001, 0.001)
    clocks.ahead_by += steps_by
    clocks.ask(0.4, 0.4)
    assert clocks.error == pytest.approx(-0.4, abs=1e-5)


@pytest.mark.parametrize("drift", [-0.9 * MOST_DRIFT, 0.9 * MOST_DRIFT])
def test_it_is_never_ahead_and_never_further_behind_than_a_quick_answer_and_the_drift(
    clocks: Clocks, drift: float, chance: Random
) -> None:
    clocks.ask(0.001, 0.001)
    since_quick = 0.0
    for _ in range(2_000):
        pause, way = 3.0, chance.choice([0.001, 0.01, 1.0])
        clocks.local += pause
        clocks.ahead_by += drift * (pause + 2 * way)
        clocks.ask(way, way)
        since_quick = 0.0 if way == 0.001 else since_quick + pause + 2 * way
        assert -0.001 - 2 * MOST_DRIFT * (since_quick + 4) <= clocks.error <= drift * way + 1e-5


async def test_a_worker_whose_heartbeat_was_answered_late(database_url: str, tmp_path: Path) -> None:
    """PostgreSQL answers through a door that keeps the answer for a while, and runs on this machine's clock."""
    async with cutting_proxy(database_url, tmp_path) as (proxy, url):
        settings = short_settings(url, worker_timeout_seconds=2 * PATIENCE)
        async with open_service(settings) as service, running_worker(service) as worker:
            clock = service.repository.db.clock
            assert ahead(clock) == pytest.approx(0.0, abs=ESTIMATE)
            heard = worker.heard_at
            await eventually(lambda: worker.heard_at > heard, within=PATIENCE, what="a heartbeat")
            heard = worker.heard_at
            proxy.fall_silent()
            await asyncio.sleep(LATE_SECONDS)  # more than a heartbeat, so one is under way by now, and this late
            assert worker.heard_at - heard < LATE_SECONDS / 2
            heard = worker.heard_at
            proxy.speak_again()
            await eventually(lambda: worker.heard_at > heard, within=PATIENCE, what="the late answer")
            assert ahead(clock) == pytest.approx(0.0, abs=ESTIMATE)


def ahead(clock: DatabaseClock) -> float:
    return (clock.now() - datetime.now(UTC)).total_seconds()


async def test_a_service_without_a_worker_asks_again(
    database: Database, sql: AnyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execution.repository.database._TIME_KEEPING_SECONDS", 0.01)
    database.clock.synchronize(await sql.fetchval("SELECT clock_timestamp() - interval '1 hour'"), 0.0)
    keeping = asyncio.create_task(database.keep_time())
    try:
        await eventually(lambda: abs(ahead(database.clock)) < ESTIMATE, within=PATIENCE, what="the time is right")
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
