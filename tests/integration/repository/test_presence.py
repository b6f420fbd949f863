"""What one part of a process has found out about PostgreSQL serves the others."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from execution.repository.connections import CLOSE_TIMEOUT
from execution.repository.database import Database
from execution.repository.presence import Presence
from tests.support.cutting_proxy import cutting_proxy
from tests.support.service import PATIENCE
from tests.support.waiting import eventually

SLACK = 1.5
"""Less than a second part would wait for a goodbye of its own."""


class Door:
    """Somebody who lets in, or does not, as the test says; `knocks` counts."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self.knocks = 0
        self.presence = Presence(self._knock)

    async def _knock(self) -> bool:
        self.knocks += 1
        await asyncio.sleep(0)
        return self.is_open


async def test_who_asks_at_once_is_answered_by_one_no() -> None:
    door = Door(is_open=False)
    assert await asyncio.gather(*(door.presence.answers() for _ in range(5))) == [False] * 5
    assert not await door.presence.answers()
    assert (door.knocks, door.presence.is_away) == (1, True)


async def test_a_no_counts_until_somebody_gets_in() -> None:
    door = Door(is_open=False)
    await door.presence.answers()
    door.is_open = True
    assert not await door.presence.answers()
    door.presence.let_in()
    assert await door.presence.answers()


async def test_a_no_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("execution.repository.presence.REMEMBERED_SECONDS", 0.0)
    door = Door(is_open=False)
    await door.presence.answers()
    door.is_open = True
    assert await door.presence.answers()


async def test_a_yes_is_never_remembered() -> None:
    door = Door(is_open=True)
    assert await door.presence.answers()
    door.is_open = False
    assert not await door.presence.answers()


async def test_who_was_not_told_goodbye_says_none_and_asks_all_the_same() -> None:
    door = Door(is_open=True)
    door.presence.said_nothing()
    assert door.presence.is_silent
    assert not door.presence.is_away
    assert await door.presence.answers()
    assert door.knocks == 1


async def test_work_is_waited_for_as_long_as_it_is_there() -> None:
    door = Door(is_open=True)
    work = asyncio.create_task(asyncio.sleep(0))
    assert await door.presence.outlasts(work)
    endless = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(door.presence.outlasts(endless))
    await eventually(lambda: door.knocks == 2, within=PATIENCE, what="it is asked again and again")
    assert not waiting.done()
    door.is_open = False
    async with asyncio.timeout(PATIENCE):
        assert not await waiting


async def test_only_one_part_waits_for_the_goodbye_of_a_server_that_stands_still(
    database_url: str, cluster_folder: Path
) -> None:
    """SQLAlchemy alone would wait for it as long as for a statement."""
    async with cutting_proxy(database_url, cluster_folder) as (proxy, url):
        database = Database(url)
        await database.start()
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        proxy.fall_silent()
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await database.stop()
        assert time.monotonic() - began < CLOSE_TIMEOUT + SLACK
        proxy.speak_again()
