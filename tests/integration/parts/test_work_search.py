"""What a worker claims: the one execution it was told of, and in time everything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from execution.domain.execution import Execution
from execution.ids import new_id
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.workers import WorkerStore
from execution.work_search import FIRST_POLL_SECONDS, WorkSearch
from tests.support.given import WORKER
from tests.support.stored import submit
from tests.support.waiting import eventually

NOOP = {"noop": False}
LONG = 30.0
WITHIN = 10.0


@pytest.fixture
async def search(database: Database) -> WorkSearch:
    """Of a worker that has just searched, and found nothing."""
    store = WorkerStore(database)
    await store.register(WORKER, list(NOOP), concurrency=4, timeout_seconds=60)
    search = WorkSearch(store, NOOP, poll_interval=LONG)
    await searched(search)
    return search


async def searched(search: WorkSearch) -> list[Execution]:
    """What its next claim brings, which is a search because it was told of nothing."""
    search.wake()
    assert search.take_note() is None
    claimed = await search.claim(WORKER, 10, None)
    search.wake()  # so that the rest ends at once
    await search.rest(None, found=bool(claimed))
    search.take_note()
    return claimed


class TestWhatItTakesNoteOf:
    def test_one_that_it_was_told_of(self, search: WorkSearch) -> None:
        search.tell(one := new_id())
        assert search.take_note() == one
        assert search.take_note() is None, "it was used up"

    @pytest.mark.parametrize(
        "said",
        [
            lambda search: (search.tell(new_id()), search.tell(new_id())),
            lambda search: (search.tell(new_id()), search.wake()),
            lambda search: (search.wake(), search.tell(new_id())),
            lambda search: [search.tell(new_id()) for _ in range(3)],
        ],
        ids=["two", "one and anything", "anything and one", "three"],
    )
    def test_of_more_it_searches(self, search: WorkSearch, said: Callable[[WorkSearch], object]) -> None:
        said(search)
        assert search.take_note() is None
        search.tell(one := new_id())
        assert search.take_note() == one


async def test_it_claims_what_it_was_told_of_and_leaves_the_rest_to_the_search(
    search: WorkSearch, repository: ExecutionRepository
) -> None:
    silent, told = await submit(repository), await submit(repository)
    search.tell(told.id)
    assert [one.id for one in await search.claim(WORKER, 10, search.take_note())] == [told.id]
    assert [one.id for one in await searched(search)] == [silent.id]


async def test_a_stream_of_things_it_is_told_of_keeps_it_from_no_search(
    search: WorkSearch, repository: ExecutionRepository
) -> None:
    """Or what becomes due meanwhile, of which nobody tells, would wait for a silence."""
    due = await submit(repository, run_at=repository.db.clock.now() + timedelta(seconds=FIRST_POLL_SECONDS))
    claimed: list[Execution] = []
    ends_at = time.monotonic() + WITHIN
    while due.id not in {one.id for one in claimed}:
        assert time.monotonic() < ends_at
        search.tell((await submit(repository)).id)
        only = search.take_note()
        claimed = await search.claim(WORKER, 10, only)
        search.tell(new_id())
        await search.rest(only, found=True)
        search.take_note()


async def test_where_somebody_was_faster_it_searches_soon(search: WorkSearch) -> None:
    for _ in range(12):  # empty searches, after which it would rest for a long time
        await searched(search)
    search.tell(new_id())
    rest = asyncio.create_task(search.rest(search.take_note(), found=False))
    await eventually(rest.done, within=WITHIN, what="the next search")
    search.tell(new_id())
    assert search.take_note() is None
