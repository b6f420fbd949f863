"""The outside checker itself: it is content with what the service writes, and finds every way to break it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from execution.domain.commands import Cancel, ChangeState, Finish, ReportProgress, Retry
from execution.domain.events import Event
from execution.domain.outcome import Succeeded
from execution.domain.state import ExecutionState
from execution.ids import new_id
from execution.repository.workers import WorkerStore
from execution.service import ExecutionService
from tests.support.checker import AT_ONCE, Acknowledged, check_acknowledged, check_database
from tests.support.given import OTHER_WORKER, SITUATIONS, T0, WORKER, Log, at, failed, running
from tests.support.log_checker import check_log
from tests.support.progress_checker import OVERDUE_SLACK, LiveWorker, what_is_wrong
from tests.support.service import PATIENCE
from tests.support.stored import AnyConnection, store_log, submit

S = ExecutionState

BRIEFLY = 0.1
IDLE = LiveWorker(id=WORKER, kinds=["noop"], concurrency=2, holds=1)
BUSY = LiveWorker(id=WORKER, kinds=["noop"], concurrency=2, holds=2)
OTHERS = LiveWorker(id=OTHER_WORKER, kinds=["other"], concurrency=2, holds=0)

HAS_NO_REASON_WITHOUT_WORKERS = {"running", "asked", "held", "cancelling"}

FOREIGN = f"worker:{OTHER_WORKER}"

BREAKAGES: dict[str, tuple[Callable[[list[list[Event]]], object], str]] = {
    "a gap": (lambda log: log[0].pop(), "a gap"),
    "a lost append": (lambda log: log.pop(2), "a gap"),
    "a lost end": (lambda log: log.pop(), "not its row"),
    "half an end": (lambda log: log[3].pop(), "not told"),
    "a foreign writer": (lambda log: alter(log, 4, actor=FOREIGN), f"written by {FOREIGN}, held by {WORKER}"),
    "a writer who holds nothing": (
        lambda log: instead(log, 1, replace(log[2][0], actor=FOREIGN)),
        f"written by {FOREIGN}, held by None",
    ),
    "two writers": (lambda log: alter(log, 6, actor=None), "several actors"),
    "an old epoch": (lambda log: alter(log, 3, lease_epoch=0), "did not raise the epoch"),
    "a claim for another": (lambda log: alter(log, 3, actor=FOREIGN), f"{FOREIGN} claimed it for {WORKER}"),
    "a claim of what is held": (lambda log: instead(log, 3, log[1][0]), f"while {WORKER} held it"),
    "a forbidden change": (lambda log: alter(log, 3, new_state="COMPLETED"), "PENDING was followed by COMPLETED"),
    "an earlier time": (lambda log: alter(log, 4, occurred_at=at(-1)), "earlier"),
    "progress after the end": (lambda log: log.append([renumbered(log[2][0], 7, actor=None)]), "after its end"),
    "a change after the end": (lambda log: log.append([renumbered(log[0][1], 7)]), "COMPLETED was followed by PENDING"),
    "a second end": (lambda log: log.append([renumbered(log[3][1], 7, actor=None)]), "out of place"),
}
"""What breaks the log of `written_by_its_worker`, and what the checker says."""


def alter(log: list[list[Event]], version: int, **changes: Any) -> None:
    """Replace fields of one event: those that no event has are facts in its data."""
    for events in log:
        for index, event in enumerate(events):
            if event.version == version:
                facts = {name: changes.pop(name) for name in list(changes) if name not in Event.__struct_fields__}
                events[index] = replace(event, data=event.data | facts, **changes)


def renumbered(event: Event, version: int, **changes: Any) -> Event:
    """The same event once more, elsewhere."""
    return replace(event, version=version, **changes)


def instead(log: list[list[Event]], index: int, event: Event) -> None:
    """The same event once more, instead of an append and all that follow it."""
    log[index:] = [[renumbered(event, log[index][0].version)]]


def written_by_its_worker() -> Log:
    """Versions 1 and 2: submitted; 3: claimed; 4: progress; 5 and 6: completed."""
    log, actor = running(), f"worker:{WORKER}"
    log.do(ReportProgress(percentage=50), actor=actor)
    log.do(Finish(outcome=Succeeded(result={})), actor=actor)
    return log


class TestLogs:
    async def test_what_the_service_writes_is_fine(self, client: ExecutionService, database_url: str) -> None:
        for name in SITUATIONS.keys() - HAS_NO_REASON_WITHOUT_WORKERS:
            await store_log(client.repository, SITUATIONS[name]())
        retried = failed()
        retried.do(Retry())
        await store_log(client.repository, retried)
        await store_log(client.repository, written_by_its_worker())
        assert (await check_database(database_url)).total() == len(SITUATIONS) - len(HAS_NO_REASON_WITHOUT_WORKERS) + 2

    @pytest.mark.parametrize("name", BREAKAGES)
    def test_what_was_broken_is_found(self, name: str) -> None:
        breaks, complaint = BREAKAGES[name]
        log = written_by_its_worker()
        check_log(log.execution, log.appends)
        breaks(log.appends)
        with pytest.raises(AssertionError, match=complaint):
            check_log(log.execution, log.appends)

    def test_an_end_left_without_a_retry_is_found(self) -> None:
        log = failed()
        (retry,) = log.do(Retry())
        del retry.data["attempt"]
        with pytest.raises(AssertionError, match="without a retry"):
            check_log(log.execution, log.appends)

    @pytest.mark.parametrize(
        ("statement", "complaint"),
        [
            ("DELETE FROM execution_events WHERE version = 2", "a gap"),
            ("DELETE FROM execution_events", "not its row"),
            ("DELETE FROM executions", "without an execution"),
            ("UPDATE executions SET priority = 9", "not its row"),
        ],
    )
    async def test_it_is_found_in_the_database(
        self, client: ExecutionService, database_url: str, sql: AnyConnection, statement: str, complaint: str
    ) -> None:
        await store_log(client.repository, written_by_its_worker())
        await sql.execute(statement)
        with pytest.raises(AssertionError, match=complaint):
            await check_database(database_url)

    async def test_it_is_found_among_many(
        self, client: ExecutionService, database_url: str, sql: AnyConnection
    ) -> None:
        """They are read piece by piece: the last of them, too, and each once."""
        created = await asyncio.gather(*(submit(client.repository, start=False) for _ in range(2 * AT_ONCE + 1)))
        assert await check_database(database_url) == {"CREATED": len(created)}
        acknowledged = {one.id: Acknowledged(answers=[one]) for one in created}
        await check_acknowledged(database_url, acknowledged)
        last = max(one.id for one in created)
        await sql.execute("DELETE FROM execution_events WHERE execution_id = $1", last)
        with pytest.raises(AssertionError, match=f"{last}: the fold of its log is not its row"):
            await check_database(database_url)
        with pytest.raises(AssertionError, match=f"{last}: acknowledged, and not in the log"):
            await check_acknowledged(database_url, acknowledged)

    async def test_an_open_transaction_is_found(
        self, client: ExecutionService, database_url: str, sql: AnyConnection
    ) -> None:
        async with sql.transaction():
            await sql.execute("SELECT 1")
            with pytest.raises(AssertionError, match="every transaction ends"):
                await check_database(database_url, within=BRIEFLY)


class TestProgress:
    @pytest.mark.parametrize(
        ("situation", "workers", "complaint"),
        [
            ("created", [IDLE], None),
            ("pending", [IDLE], f"idle: worker {WORKER}"),
            ("pending", [BUSY, OTHERS], None),
            ("pending", [], None),
            ("running", [BUSY], None),
            ("running", [OTHERS], "is dead"),
            ("running", [], "is dead"),
            ("cancelling", [BUSY], None),
            ("cancelling", [OTHERS], "is dead"),
            ("paused", [IDLE], None),
            ("held", [BUSY], None),
            ("held", [OTHERS], "is dead"),
            ("completed", [IDLE], None),
        ],
    )
    def test_who_has_a_reason_to_stand_still(
        self, situation: str, workers: list[LiveWorker], complaint: str | None
    ) -> None:
        wrong = what_is_wrong(SITUATIONS[situation]().execution, workers, T0)
        assert complaint in wrong if complaint and wrong else wrong is complaint

    def test_what_is_driven_from_outside_is_nobodys_fault(self) -> None:
        log = SITUATIONS["pending"]()
        log.do(ChangeState(target=S.RUNNING))
        assert what_is_wrong(log.execution, [IDLE], T0) is None

    def test_what_is_not_due_waits(self) -> None:
        later = SITUATIONS["pending"](run_at=T0 + timedelta(seconds=1)).execution
        assert what_is_wrong(later, [IDLE], T0) is None
        assert what_is_wrong(later, [IDLE], later.run_at) is not None

    @pytest.mark.parametrize("situation", ["pending", "running", "cancelling"])
    def test_a_deadline_is_kept_where_anybody_lives(self, situation: str) -> None:
        log = SITUATIONS[situation](schedule_to_start=5, start_to_close=5)
        deadline = log.execution.deadline
        assert deadline is not None
        assert what_is_wrong(log.execution, [BUSY], deadline) is None
        late = what_is_wrong(log.execution, [BUSY], deadline + OVERDUE_SLACK + timedelta(seconds=1))
        assert late == f"its deadline passed at {deadline.isoformat()}"

    async def test_what_moves_while_it_looks_is_fine(self, client: ExecutionService, database_url: str) -> None:
        store = WorkerStore(client.repository.db)
        await store.register(WORKER, ["noop"], concurrency=1, timeout_seconds=60)
        await submit(client.repository)
        checking = asyncio.create_task(check_database(database_url, within=PATIENCE))
        done, _ = await asyncio.wait([checking], timeout=BRIEFLY)
        assert not done, "a due execution and an idle worker: something should happen"
        await store.claim(WORKER, {"noop": False}, 1)
        assert await checking == {"PENDING": 1}

    async def test_what_stands_still_is_found(self, client: ExecutionService, database_url: str) -> None:
        store = WorkerStore(client.repository.db)
        await store.register(WORKER, ["noop"], concurrency=1, timeout_seconds=60)
        execution = await submit(client.repository)
        await store.claim(WORKER, {"noop": False}, 1)
        await check_database(database_url)
        await store.retire(WORKER)
        with pytest.raises(AssertionError, match=f"{execution.id} is RUNNING: its worker {WORKER} is dead"):
            await check_database(database_url, within=BRIEFLY)


class TestAcknowledged:
    async def test_what_is_in_the_log_is_fine(self, client: ExecutionService, database_url: str) -> None:
        created = await submit(client.repository)
        cancelled = await client.cancel_execution(created.id)
        facts = Acknowledged(answers=[created, cancelled], entered={S.CREATED: 1, S.CANCELLED: 1})
        await check_acknowledged(database_url, {created.id: facts})

    async def test_what_was_lost_is_found(
        self, client: ExecutionService, database_url: str, sql: AnyConnection
    ) -> None:
        created = await submit(client.repository)
        cancelled = await client.cancel_execution(created.id)
        await sql.execute("DELETE FROM execution_events WHERE version > 2")
        with pytest.raises(AssertionError, match="version 4 was acknowledged, and is lost"):
            await check_acknowledged(database_url, {created.id: Acknowledged(answers=[created, cancelled])})
        missing = new_id()
        with pytest.raises(AssertionError, match=f"{missing}: acknowledged, and not in the log"):
            await check_acknowledged(database_url, {missing: Acknowledged()})

    async def test_another_effect_is_found(self, client: ExecutionService, database_url: str) -> None:
        created = await submit(client.repository)
        other = msgspec.structs.replace(created, priority=3)
        with pytest.raises(AssertionError, match="not what version 2 was said to be"):
            await check_acknowledged(database_url, {created.id: Acknowledged(answers=[other])})

    async def test_a_second_effect_is_found(self, client: ExecutionService, database_url: str) -> None:
        log = failed()
        for _ in range(2):
            log.do(Retry())
            log.do(Cancel())
        execution = await store_log(client.repository, log)
        facts = Acknowledged(answers=[execution], entered={S.PENDING: 2})
        with pytest.raises(AssertionError, match="PENDING 3 times instead of 2"):
            await check_acknowledged(database_url, {execution.id: facts})
