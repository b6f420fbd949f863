"""The frontier makes claims fast; what is claimed, and in which order, it must not change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from random import Random

import pytest

from execution.domain.execution import Execution
from execution.repository.database import Database
from execution.repository.frontier import MAX_LEVELS, MAX_PAUSE_SECONDS, OVERLAP, ClaimFrontier
from execution.repository.repository import ExecutionRepository
from execution.repository.workers import WorkerStore
from tests.support.given import WORKER
from tests.support.stored import submit

KINDS = {"noop": False, "sleep": True}
A_SEARCH_SECONDS = 0.01
LATE = timedelta(minutes=5)


@pytest.fixture(autouse=True)
async def _worker(store: WorkerStore) -> None:
    await store.register(WORKER, list(KINDS), concurrency=4, timeout_seconds=60)


class Stopwatch:
    """Every look at it takes as long as a search."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += A_SEARCH_SECONDS
        return self.seconds


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def frontier(database: Database, stopwatch: Stopwatch) -> ClaimFrontier:
    return ClaimFrontier(database.clock.now, stopwatch)


async def submit_late(repository: ExecutionRepository, **changes: int) -> Execution:
    """One whose turn has been long ago by the time it becomes visible."""
    late = await submit(repository, **changes)
    await repository.db.pool.execute("UPDATE executions SET run_at = $2 WHERE id = $1", late.id, late.run_at - LATE)
    return late


async def claim_one(repository: ExecutionRepository, store: WorkerStore, frontier: ClaimFrontier) -> None:
    """So that the frontier has got somewhere."""
    there = await submit(repository)
    assert [one.id for one in await store.claim(WORKER, KINDS, 10, frontier)] == [there.id]


async def test_what_turns_up_behind_it_is_found_by_the_next_whole_search(
    repository: ExecutionRepository, store: WorkerStore, frontier: ClaimFrontier, stopwatch: Stopwatch
) -> None:
    await claim_one(repository, store, frontier)
    late = await submit_late(repository)
    assert await store.claim(WORKER, KINDS, 10, frontier) == []
    stopwatch.seconds += 100 * A_SEARCH_SECONDS
    assert [one.id for one in await store.claim(WORKER, KINDS, 10, frontier)] == [late.id]


async def test_many_of_them_are_taken_one_claim_after_the_other(
    repository: ExecutionRepository, store: WorkerStore, frontier: ClaimFrontier, stopwatch: Stopwatch
) -> None:
    """The frontier goes back to where the whole search has found something."""
    await claim_one(repository, store, frontier)
    late = [await submit_late(repository) for _ in range(6)]
    stopwatch.seconds += 100 * A_SEARCH_SECONDS
    claimed = [await store.claim(WORKER, KINDS, 2, frontier) for _ in range(3)]
    assert [one.id for batch in claimed for one in batch] == [one.id for one in late]


async def test_what_is_a_little_late_is_found_at_once(
    repository: ExecutionRepository, store: WorkerStore, frontier: ClaimFrontier
) -> None:
    slow = await submit(repository)
    await repository.db.pool.execute("UPDATE executions SET run_at = now() + interval '1 hour'")
    await claim_one(repository, store, frontier)
    await repository.db.pool.execute("UPDATE executions SET run_at = $2 WHERE id = $1", slow.id, slow.run_at)
    assert [one.id for one in await store.claim(WORKER, KINDS, 10, frontier)] == [slow.id]


@pytest.mark.parametrize("priority", [-1000, -1, 1, 5, 9, 1000])
async def test_a_level_it_does_not_know_is_searched_from_its_head(
    repository: ExecutionRepository, store: WorkerStore, frontier: ClaimFrontier, priority: int
) -> None:
    for known in (0, 7):
        await submit(repository, priority=known)
    assert len(await store.claim(WORKER, KINDS, 10, frontier)) == 2
    assert not frontier.begin().is_whole
    new = await submit_late(repository, priority=priority)
    assert [one.id for one in await store.claim(WORKER, KINDS, 10, frontier)] == [new.id]


async def test_the_order_is_that_of_claims_without_it(
    repository: ExecutionRepository, store: WorkerStore, frontier: ClaimFrontier, chance: Random
) -> None:
    claimed = []
    for _ in range(20):
        waiting = [
            await submit(repository, priority=chance.choice((-3, 0, 4)), kind=chance.choice(list(KINDS)))
            for _ in range(chance.randrange(1, 8))
        ]
        batch = await store.claim(WORKER, KINDS, 100, frontier)
        assert [one.id for one in batch] == [
            one.id for one in sorted(waiting, key=lambda one: (-one.priority, one.run_at, one.id))
        ]
        claimed += batch
    assert len(claimed) == await repository.db.pool.fetchval("SELECT count(*) FROM executions")


async def test_when_the_next_one_is_due_is_seen_beyond_it_and_in_levels_it_does_not_know(
    repository: ExecutionRepository, store: WorkerStore, frontier: ClaimFrontier
) -> None:
    await claim_one(repository, store, frontier)
    assert await store.claim(WORKER, KINDS, 10, frontier) == []
    assert await store.seconds_until_due(list(KINDS), frontier) is None
    soon = repository.db.clock.now() + timedelta(minutes=10)
    for changes in ({"priority": 3}, {"kind": "sleep"}, {"priority": -3}, {}):
        await submit(repository, run_at=soon, **changes)
        expected = (soon - repository.db.clock.now()).total_seconds()
        assert await store.seconds_until_due(list(KINDS), frontier) == pytest.approx(expected, abs=5)
        soon -= timedelta(minutes=1)
    await submit_late(repository)
    behind = await store.seconds_until_due(list(KINDS), frontier)
    assert behind is not None
    assert behind > 0, "no claim but a whole one would find it"


class TestPauses:
    """Between whole searches."""

    def searches(self, frontier: ClaimFrontier, known: Execution, count: int) -> Iterator[bool]:
        for _ in range(count):
            search = frontier.begin()
            frontier.end(search, [known], 1)
            yield search.is_whole

    async def test_one_search_in_a_hundred_is_whole(
        self, repository: ExecutionRepository, frontier: ClaimFrontier
    ) -> None:
        known = await submit(repository)
        whole = list(self.searches(frontier, known, 1000))
        assert whole[0]
        assert 5 <= whole.count(True) <= 25  # only a whole one looks at the watch twice

    async def test_however_slow_they_are_they_come_back(
        self, repository: ExecutionRepository, frontier: ClaimFrontier, stopwatch: Stopwatch
    ) -> None:
        search = frontier.begin()
        stopwatch.seconds += 3600
        frontier.end(search, [await submit(repository)], 1)
        assert not frontier.begin().is_whole
        stopwatch.seconds += MAX_PAUSE_SECONDS
        assert frontier.begin().is_whole

    async def test_it_remembers_the_latest_levels_only(
        self, repository: ExecutionRepository, frontier: ClaimFrontier
    ) -> None:
        levels = [await submit(repository, priority=priority) for priority in range(MAX_LEVELS + 5)]
        frontier.end(frontier.begin(), levels, len(levels))
        assert [priority for _, priority, _ in frontier.begin().levels] == list(range(5, MAX_LEVELS + 5))
        assert {since for _, _, since in frontier.begin().levels} == {one.run_at - OVERLAP for one in levels[5:]}
