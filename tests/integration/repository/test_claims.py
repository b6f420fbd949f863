"""Claims, and what becomes of them when their worker is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

import pytest

from execution.domain.commands import Cancel, Finish, Pause, Rescue, Retry, Start
from execution.domain.execution import Execution
from execution.domain.outcome import Failed, Succeeded
from execution.domain.state import ExecutionState
from execution.ids import new_id
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.statements import statement
from execution.repository.workers import WorkerStore
from tests.support.given import BOOM, OTHER_WORKER, WORKER
from tests.support.stored import AnyConnection, assert_row_is_fold, carry_out, read, submit, waiting_sessions
from tests.support.waiting import eventually

S = ExecutionState
NOOP = {"noop": False}
AnyClaim: TypeAlias = Callable[[WorkerStore, dict[str, bool], UUID], Awaitable[list[Execution]]]
CLAIMS: dict[str, AnyClaim] = {
    "search": lambda store, kinds, _: store.claim(WORKER, kinds, 1),
    "one": lambda store, kinds, execution_id: store.claim_one(WORKER, kinds, execution_id),
}
"""The two ways to claim."""


@pytest.fixture(autouse=True)
async def _workers(store: WorkerStore) -> None:
    for worker_id in (WORKER, OTHER_WORKER):
        await store.register(worker_id, ["noop", "sleep"], concurrency=4, timeout_seconds=60)


async def submit_due(repository: ExecutionRepository, seconds: float, **changes: Any) -> Execution:
    """An execution due so many seconds from now; a time in the past is set behind the service's back."""
    run_at = repository.db.clock.now() + timedelta(seconds=seconds)
    execution = await submit(repository, run_at=run_at, **changes)
    if seconds < 0:
        await repository.db.pool.execute("UPDATE executions SET run_at = $2 WHERE id = $1", execution.id, run_at)
    return execution


async def kill(sql: AnyConnection, worker_id: UUID) -> None:
    """Make a worker look as if its last heartbeat were too long ago."""
    await sql.execute("UPDATE workers SET heartbeat_at = now() - interval '1 hour' WHERE id = $1", worker_id)


async def known_workers(sql: AnyConnection) -> list[UUID]:
    return [row["id"] for row in await sql.fetch("SELECT id FROM workers ORDER BY id")]


class TestOrder:
    @pytest.mark.parametrize("limit", [1, 3, 100])
    async def test_priority_then_due_time_then_age_over_all_kinds(
        self, repository: ExecutionRepository, store: WorkerStore, limit: int
    ) -> None:
        low = await submit_due(repository, -500, priority=-1)
        late = await submit_due(repository, -10, kind="sleep")
        early = await submit_due(repository, -20)
        tied = repository.db.clock.now() - timedelta(seconds=15)
        younger, older = sorted([new_id(), new_id()], reverse=True)
        for execution_id, kind in ((younger, "noop"), (older, "sleep")):
            await submit(repository, id=execution_id, kind=kind)
            await repository.db.pool.execute("UPDATE executions SET run_at = $2 WHERE id = $1", execution_id, tied)
        high = await submit_due(repository, -1, priority=5, kind="sleep")
        highest = await submit_due(repository, -1, priority=9)
        claimed: list[Execution] = []
        while batch := await store.claim(WORKER, {"noop": False, "sleep": True}, limit):
            assert len(batch) <= limit
            claimed += batch
        expected = [highest.id, high.id, early.id, older, younger, late.id, low.id]
        assert [one.id for one in claimed] == expected

    async def test_a_large_claim_is_in_order_too(self, repository: ExecutionRepository, store: WorkerStore) -> None:
        submitted = [
            await submit(repository, priority=number % 7, kind=kind)
            for number in range(60)
            for kind in ("noop", "sleep")
        ]
        claimed = await store.claim(WORKER, {"noop": False, "sleep": True}, 200)
        assert [one.id for one in claimed] == [
            one.id for one in sorted(submitted, key=lambda one: (-one.priority, one.run_at, one.id))
        ]

    async def test_what_is_not_due_waits(self, repository: ExecutionRepository, store: WorkerStore) -> None:
        await submit_due(repository, 600, priority=9)
        due = await submit(repository)
        assert [one.id for one in await store.claim(WORKER, NOOP, 10)] == [due.id]

    async def test_other_kinds_and_other_states_are_left_alone(
        self, repository: ExecutionRepository, store: WorkerStore
    ) -> None:
        await submit(repository, kind="sleep")
        await submit(repository, start=False)
        await carry_out(repository, await submit(repository), Pause())
        await carry_out(repository, await submit(repository), Cancel())
        assert await store.claim(WORKER, NOOP, 10) == []


class TestContract:
    """The claim is decided in SQL; here it is held against `evolve`."""

    @pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
    @pytest.mark.parametrize("idempotent", [True, False])
    @pytest.mark.parametrize("start_to_close", [None, 12.5, 3600])
    async def test_the_row_is_the_fold_of_the_log(
        self,
        repository: ExecutionRepository,
        store: WorkerStore,
        idempotent: bool,
        start_to_close: float | None,
        claim: AnyClaim,
    ) -> None:
        before = await submit(
            repository, start_to_close=start_to_close, schedule_to_start=60.0, parameters={"a": [1]}, agent_id="writer"
        )
        (claimed,) = await claim(store, {"noop": idempotent, "sleep": not idempotent}, before.id)
        assert claimed == await assert_row_is_fold(repository, before.id)
        assert (claimed.state, claimed.version, claimed.lease_epoch) == (S.RUNNING, before.version + 1, 1)
        assert (claimed.worker_id, claimed.idempotent) == (WORKER, idempotent)
        assert claimed.started_at is not None
        limit = None if start_to_close is None else claimed.started_at + timedelta(seconds=start_to_close)
        assert claimed.deadline == limit
        last = (await repository.get_history(before.id))[-1]
        assert last.actor == f"worker:{WORKER}"

    async def test_a_new_attempt_forgets_the_last_error(
        self, repository: ExecutionRepository, store: WorkerStore
    ) -> None:
        await submit(repository)
        (claimed,) = await store.claim(WORKER, NOOP, 1)
        failed = await carry_out(repository, claimed, Finish(outcome=Failed(error=BOOM)))
        assert (await carry_out(repository, failed, Retry())).error == BOOM
        (again,) = await store.claim(OTHER_WORKER, {"noop": True}, 1)
        assert again == await assert_row_is_fold(repository, claimed.id)
        assert (again.error, again.attempt, again.lease_epoch) == (None, 2, 2)
        assert (again.worker_id, again.idempotent) == (OTHER_WORKER, True)

    async def test_time_does_not_run_backwards_in_the_log(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        """A process whose clock was ahead wrote the last event."""
        execution = await submit(repository, start_to_close=10.0)
        ahead = repository.db.clock.now() + timedelta(hours=1)
        await sql.execute("UPDATE executions SET updated_at = $1", ahead)
        (claimed,) = await store.claim(WORKER, NOOP, 1)
        assert (claimed.updated_at, claimed.started_at) == (ahead, ahead)
        assert claimed.deadline == ahead + timedelta(seconds=10)
        assert (await repository.get_history(execution.id))[-1].occurred_at == ahead


class TestOne:
    async def test_it_and_no_other(self, repository: ExecutionRepository, store: WorkerStore) -> None:
        urgent, wanted = await submit(repository, priority=9), await submit(repository)
        assert [one.id for one in await store.claim_one(WORKER, NOOP, wanted.id)] == [wanted.id]
        assert [one.id for one in await store.claim(WORKER, NOOP, 10)] == [urgent.id]

    async def test_not_what_a_search_would_not_find(self, repository: ExecutionRepository, store: WorkerStore) -> None:
        claimed = await submit(repository)
        await store.claim(OTHER_WORKER, NOOP, 1)
        not_due, of_another_kind = await submit_due(repository, 60), await submit(repository, kind="sleep")
        created, ended = await submit(repository, start=False), await submit(repository)
        await carry_out(repository, ended, Cancel())
        for execution_id in (claimed.id, not_due.id, of_another_kind.id, created.id, ended.id, new_id()):
            assert await store.claim_one(WORKER, NOOP, execution_id) == []

    async def test_what_is_being_changed_is_not_waited_for(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        changing = await submit(repository)
        async with sql.transaction():
            await sql.fetch("SELECT FROM executions WHERE id = $1 FOR UPDATE", changing.id)
            assert await store.claim_one(WORKER, NOOP, changing.id) == []
        assert len(await store.claim_one(WORKER, NOOP, changing.id)) == 1


class TestRace:
    async def test_nothing_is_claimed_twice(
        self, repository: ExecutionRepository, store: WorkerStore, database_url: str
    ) -> None:
        submitted = await asyncio.gather(
            *(submit(repository, priority=number % 3, kind=("noop", "sleep")[number % 2]) for number in range(400))
        )
        async with Database(database_url) as another:
            rivals = [(store, WORKER), (WorkerStore(another), OTHER_WORKER)] * 4
            shares = await asyncio.gather(*(claim_everything(rival, worker) for rival, worker in rivals))
        claimed = [one.id for share in shares for one in share]
        assert sorted(claimed) == sorted(one.id for one in submitted)
        for one in submitted[::50]:
            await assert_row_is_fold(repository, one.id)

    async def test_what_is_being_changed_is_passed_over(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        changing, free = await submit(repository), await submit(repository)
        async with sql.transaction():
            await sql.fetch("SELECT FROM executions WHERE id = $1 FOR UPDATE", changing.id)
            assert [one.id for one in await store.claim(WORKER, NOOP, 10)] == [free.id]
        assert [one.id for one in await store.claim(WORKER, NOOP, 10)] == [changing.id]


async def claim_everything(store: WorkerStore, worker_id: UUID) -> list[Execution]:
    claimed: list[Execution] = []
    while batch := await store.claim(worker_id, {"noop": False, "sleep": True}, 7):
        claimed += batch
    return claimed


class TestDeadWorker:
    @pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
    async def test_it_gets_nothing(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection, claim: AnyClaim
    ) -> None:
        execution = await submit(repository)
        await kill(sql, WORKER)
        assert await store.bury() == [WORKER]
        assert await claim(store, NOOP, execution.id) == []
        assert await store.heartbeat(WORKER) is None
        assert len(await store.claim(OTHER_WORKER, NOOP, 1)) == 1

    async def test_a_worker_nobody_knows_gets_nothing(
        self, repository: ExecutionRepository, store: WorkerStore
    ) -> None:
        await submit(repository)
        assert await store.claim(new_id(), NOOP, 1) == []

    async def test_a_heartbeat_keeps_it_alive(self, store: WorkerStore, sql: AnyConnection) -> None:
        await kill(sql, WORKER)
        answer = await store.heartbeat(WORKER)
        assert answer is not None
        assert await store.bury() == []
        assert abs(answer - await sql.fetchval("SELECT clock_timestamp()")) < timedelta(seconds=5)

    async def test_what_it_held_is_found_and_nothing_else(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        held = [await submit(repository) for _ in range(3)]
        await store.claim(WORKER, NOOP, 3)
        await submit(repository)
        await store.claim(OTHER_WORKER, NOOP, 1)
        finished = await read(repository, held[0].id)
        await carry_out(repository, finished, Finish(outcome=Succeeded(result={})))
        assert await store.orphans(10) == []
        await kill(sql, WORKER)
        await store.bury()
        assert [one.id for one in await store.orphans(10)] == [held[1].id, held[2].id]
        assert [one.id for one in await store.orphans(1)] == [held[1].id]
        for orphan in await store.orphans(10):
            await carry_out(repository, orphan, Rescue(worker_id=WORKER))
        assert await store.orphans(10) == []

    async def test_it_is_remembered_until_it_holds_nothing(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        await submit(repository)
        (held,) = await store.claim(WORKER, NOOP, 1)
        await kill(sql, WORKER)
        await store.bury()
        await store.forget_dead(0)
        assert [one.id for one in await store.orphans(1)] == [held.id]
        await carry_out(repository, held, Rescue(worker_id=WORKER))
        await store.forget_dead(3600)
        assert await known_workers(sql) == [WORKER, OTHER_WORKER]
        await store.forget_dead(0)
        assert await known_workers(sql) == [OTHER_WORKER]


class TestRetired:
    async def test_it_is_as_if_it_had_died(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        await submit(repository)
        await store.retire(WORKER)
        assert await store.claim(WORKER, NOOP, 1) == []
        assert await store.heartbeat(WORKER) is None
        assert await store.offered_kinds() == {"noop", "sleep"}
        await store.retire(OTHER_WORKER)
        assert await store.offered_kinds() == set()
        await store.forget_dead(0)
        assert await known_workers(sql) == []

    async def test_what_it_still_holds_can_be_rescued_at_once(
        self, repository: ExecutionRepository, store: WorkerStore
    ) -> None:
        await submit(repository)
        (held,) = await store.claim(WORKER, NOOP, 1)
        await store.retire(WORKER)
        assert await store.orphans(10) == [held]
        assert await store.claim(WORKER, NOOP, 1) == []

    async def test_a_claim_that_commits_after_its_worker_retired_is_found(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        """A worker that stops may give up waiting for a claim that the server goes on with."""
        execution = await submit(repository)
        async with sql.transaction():
            claim = statement("claim_executions")
            assert len(await sql.fetch(claim, ["noop"], [False], WORKER, None, 1, [], [], [])) == 1
            retirement = asyncio.create_task(store.retire(WORKER))
            await settled_or_waiting(retirement, sql)
        await retirement
        assert [one.id for one in await store.orphans(10)] == [execution.id]

    async def test_so_is_a_claim_that_did_not_see_the_burial(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        await submit(repository)
        await kill(sql, WORKER)
        async with sql.transaction():
            assert await sql.fetchval(statement("bury_workers")) == WORKER
            claim = asyncio.create_task(store.claim(WORKER, NOOP, 1))
            await settled_or_waiting(claim, sql)
        claimed = {one.id for one in await claim}
        assert {one.id for one in await store.orphans(10)} == claimed


async def settled_or_waiting(task: asyncio.Task[Any], sql: AnyConnection) -> None:
    """The task has done what it can while the transaction of `sql` is open: it ended, or it waits for a lock."""

    async def probe() -> bool:
        return task.done() or await waiting_sessions(sql) > 0

    await eventually(probe, within=5, what="the task has ended or waits")


class TestTimes:
    async def test_when_the_next_one_is_due(self, repository: ExecutionRepository, store: WorkerStore) -> None:
        assert await store.seconds_until_due(["noop"]) is None
        await submit_due(repository, 600, priority=9)
        await submit_due(repository, 300, priority=-9)
        await submit_due(repository, 100, kind="sleep")
        assert await store.seconds_until_due(["noop"]) == pytest.approx(300, abs=10)
        assert await store.seconds_until_due(["noop", "sleep"]) == pytest.approx(100, abs=10)
        await submit_due(repository, -50, priority=3)
        assert await store.seconds_until_due(["noop"]) == pytest.approx(-50, abs=10)

    async def test_what_has_passed_its_deadline(
        self, repository: ExecutionRepository, store: WorkerStore, sql: AnyConnection
    ) -> None:
        """A running one's own worker is given some slack to enforce the limit itself."""
        assert (await store.survey(5)).seconds_until_deadline is None
        waiting = await submit(repository, schedule_to_start=600.0)
        await submit(repository, kind="sleep", start_to_close=600.0)
        (run,) = await store.claim(WORKER, {"sleep": False}, 1)
        assert await store.overdue(5, 10) == []
        assert (await store.survey(5)).seconds_until_deadline == pytest.approx(600, abs=10)
        await sql.execute("UPDATE executions SET deadline = now() - interval '3 seconds'")
        assert [one.id for one in await store.overdue(5, 10)] == [waiting.id]
        assert {one.id for one in await store.overdue(1, 10)} == {waiting.id, run.id}
        assert len(await store.overdue(1, 1)) == 1
        survey = await store.survey(5)
        assert survey.overdue
        assert survey.seconds_until_deadline == pytest.approx(-3, abs=2)

    async def test_what_there_is_to_rescue(self, store: WorkerStore, sql: AnyConnection) -> None:
        survey = await store.survey(5)
        assert (survey.silent_workers, survey.dead_workers, survey.overdue) == (False, False, False)
        await kill(sql, WORKER)
        survey = await store.survey(5)
        assert (survey.silent_workers, survey.dead_workers) == (True, False)
        await store.bury()
        survey = await store.survey(5)
        assert (survey.silent_workers, survey.dead_workers) == (False, True)

    async def test_what_a_worker_holds(self, repository: ExecutionRepository, store: WorkerStore) -> None:
        await carry_out(repository, await submit(repository, start=False), Start())
        (held,) = await store.claim(WORKER, NOOP, 1)
        assert await store.held_by(WORKER) == [held]
        assert await store.held_by(OTHER_WORKER) == []
