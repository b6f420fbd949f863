"""Facts in the log: in the order they were given, once each, under the run's lease, and open executions only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from events.bus import InProcessEventBus
from events.facts import RecordedFact
from execution.domain.commands import Cancel, Finish, Pause, Record, ReportProgress
from execution.domain.execution import JsonObject
from execution.domain.facts import checked_fact
from execution.domain.history import HistoryItem
from execution.domain.outcome import Succeeded
from execution.domain.state import ExecutionState
from execution.errors import (
    DocumentTooLargeError,
    InvalidDocumentError,
    InvalidExecutionStateError,
    LeaseLost,
    OutcomeUnknownError,
    ServiceClosedError,
    TooManyFactsError,
    VersionConflict,
)
from execution.event_emitter import ExecutionEventEmitter
from execution.handlers import HandlerRegistry, TaskContext
from execution.ids import new_id
from execution.lease import Lease
from execution.presentation import describe_entry
from execution.progress_tracker import FACTS_LIMIT, ExecutionProgressTracker
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.workers import WorkerStore
from execution.service import ExecutionService
from execution.state_manager import ExecutionStateManager
from execution.wiring import open_service
from tests.support import process_handlers
from tests.support.cutting_proxy import CuttingProxy, Fault, cutting_proxy
from tests.support.service import ended, running_worker, short_settings
from tests.support.stored import assert_row_is_fold, submit
from tests.support.waiting import eventually

NEVER = 3600.0
"""An interval after which nothing of a test is written by itself."""
KIND = "under.test"


@pytest.fixture
def tracker(repository: ExecutionRepository, emitter: ExecutionEventEmitter) -> ExecutionProgressTracker:
    return ExecutionProgressTracker(repository, emitter, interval=NEVER)


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[ExecutionService]:
    async with open_service(short_settings(database_url), registry=HandlerRegistry()) as service:
        yield service


async def said(repository: ExecutionRepository, lease: Lease) -> list[Any]:
    """What the log says of the run: the names of facts, the percentages of reports."""
    history = await repository.get_history(lease.execution.id)
    return [item.data.get("name") or item.data.get("percentage") for item in history if "new_state" not in item.data]


def facts_of(history: list[HistoryItem]) -> list[tuple[str, JsonObject]]:
    return [(item.data["name"], item.data["data"]) for item in history if item.type.endswith(".recorded")]


class TestName:
    @pytest.mark.parametrize("name", ["audit.job_created", "step.started", "a.b.c2"])
    def test_dotted_words(self, name: str) -> None:
        assert checked_fact(name).fact == name

    @pytest.mark.parametrize("name", ["", "step", "Step.started", "step.", ".started", "a b.c", "ü.b", "a.b\n", 7])
    def test_everything_else(self, name: Any) -> None:
        with pytest.raises(InvalidDocumentError, match="with dots between"):
            checked_fact(name)

    def test_a_long_one(self) -> None:
        assert checked_fact("a." + "b" * 98).data == {}
        with pytest.raises(InvalidDocumentError, match="in 100 characters"):
            checked_fact("a." + "b" * 99)


class TestFromOutside:
    async def test_it_changes_nothing_but_the_version(self, service: ExecutionService) -> None:
        before = await service.create_execution("noop")
        after = await service.record(before.id, "scope.refused", {"action": "restart"})
        assert (after.state, after.version, after.progress) == (before.state, before.version + 1, before.progress)
        (item,) = await service.history(before.id, after_version=before.version)
        assert item.data == {"name": "scope.refused", "data": {"action": "restart"}}
        assert describe_entry(item) == "scope.refused  (action=restart)"
        assert await assert_row_is_fold(service.repository, before.id) == after

    async def test_what_follows_stands_on_it(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop")
        await service.record(execution.id, "a.one")
        with pytest.raises(VersionConflict):
            await service.record(execution.id, "a.two", expected_version=execution.version)
        command_id = new_id()
        for _ in range(2):
            await service.record(execution.id, "a.two", {"n": 2}, command_id=command_id)
        assert facts_of(await service.history(execution.id)) == [("a.one", {}), ("a.two", {"n": 2})]

    async def test_an_end_closes_the_log(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop")
        await service.state_manager.change_state(execution.id, ExecutionState.RUNNING)
        after = await service.submit_result(execution.id, {"kept": True})
        with pytest.raises(InvalidExecutionStateError, match="closed with its end"):
            await service.record(execution.id, "too.late")
        assert await service.get_execution(execution.id) == after

    @pytest.mark.parametrize(
        ("data", "error"), [({"x": float("nan")}, InvalidDocumentError), ({"x": "y" * 300_000}, DocumentTooLargeError)]
    )
    async def test_what_cannot_be_stored(
        self, service: ExecutionService, data: JsonObject, error: type[Exception]
    ) -> None:
        execution = await service.create_execution("noop")
        with pytest.raises(error, match=r"the data of the fact a\.b"):
            await service.record(execution.id, "a.b", data)
        assert await service.get_execution(execution.id) == execution

    async def test_the_bus_tells_it(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop")
        bus: Any = service.event_bus
        async with bus.subscribe() as subscription, asyncio.timeout(10):
            await service.record(execution.id, "a.b", {"n": 1})
            async for event in subscription:
                if event.type == RecordedFact.event_type:
                    break
        fact = RecordedFact.model_validate(event.payload)
        assert (fact.execution_id, fact.name, fact.data) == (execution.id, "a.b", {"n": 1})


class TestOfARun:
    async def test_facts_and_reports_keep_their_order(
        self, tracker: ExecutionProgressTracker, repository: ExecutionRepository, lease: Lease
    ) -> None:
        reporter = tracker.follow(lease)
        reporter.record("a.one", None)
        reporter.report(10, None, None)
        reporter.report(20, None, None)
        reporter.record("a.two", None)
        reporter.record("a.two", None)
        reporter.report(30, None, None)
        await lease.apply(*await reporter.close())
        assert await said(repository, lease) == ["a.one", 20, "a.two", "a.two", 30]

    async def test_who_waits_for_them_finds_them_in_the_log(
        self, tracker: ExecutionProgressTracker, repository: ExecutionRepository, lease: Lease
    ) -> None:
        reporter = tracker.follow(lease)
        for number in range(1, 4):  # the interval is an hour: only the waiting brings the second one there
            reporter.record("step.started", {"step": number})
            await reporter.recorded()
            assert await said(repository, lease) == ["step.started"] * number
        await reporter.recorded()
        assert await reporter.close() == []

    async def test_who_waits_is_told_that_the_lease_is_lost(
        self, tracker: ExecutionProgressTracker, state_manager: ExecutionStateManager, lease: Lease
    ) -> None:
        finished = Finish(outcome=Succeeded(result={}), by_holder=False)
        after = await state_manager.apply(lease.execution.id, finished)
        reporter = tracker.follow(lease)
        reporter.record("step.started", None)
        with pytest.raises(LeaseLost):
            await reporter.recorded()
        assert await state_manager.get(lease.execution.id) == after

    async def test_a_change_from_outside_that_was_first_is_read_and_the_fact_written_once(
        self,
        tracker: ExecutionProgressTracker,
        state_manager: ExecutionStateManager,
        repository: ExecutionRepository,
        lease: Lease,
    ) -> None:
        reporter = tracker.follow(lease)
        await state_manager.apply(lease.execution.id, Pause())
        reporter.record("step.started", None)
        await reporter.recorded()
        assert (await said(repository, lease)).count("step.started") == 1
        assert lease.execution.pause_requested

    async def test_who_waits_may_be_cancelled_and_nothing_is_lost_or_written_twice(
        self, tracker: ExecutionProgressTracker, repository: ExecutionRepository, lease: Lease
    ) -> None:
        reporter = tracker.follow(lease)
        reporter.record("a.one", None)
        waiting = asyncio.create_task(reporter.recorded())
        await asyncio.sleep(0)  # it has sent its fact, and waits
        waiting.cancel()
        reporter.record("a.two", None)
        await reporter.recorded()
        assert waiting.cancelled()
        assert await said(repository, lease) == ["a.one", "a.two"]

    async def test_all_who_wait_are_told_what_cannot_be_helped(
        self, tracker: ExecutionProgressTracker, lease: Lease, database: Database
    ) -> None:
        reporter = tracker.follow(lease)
        await database.lanes.stop()
        reporter.record("a.one", None)
        told = await asyncio.gather(reporter.recorded(), reporter.recorded(), return_exceptions=True)
        assert [type(one) for one in told] == [ServiceClosedError] * 2

    async def test_one_that_is_being_cancelled_takes_facts_and_no_progress(
        self,
        tracker: ExecutionProgressTracker,
        repository: ExecutionRepository,
        state_manager: ExecutionStateManager,
        lease: Lease,
    ) -> None:
        await state_manager.apply(lease.execution.id, Cancel())
        reporter = tracker.follow(lease)
        reporter.report(50, None, None)
        reporter.record("step.stopped", None)
        await reporter.recorded()
        assert await said(repository, lease) == ["step.stopped"]

    async def test_more_than_can_wait_is_refused(self, tracker: ExecutionProgressTracker, lease: Lease) -> None:
        reporter = tracker.follow(lease)
        large = {"text": "x" * 200_000}
        for _ in range(FACTS_LIMIT // 200_000):
            reporter.record("a.large", large)
        with pytest.raises(TooManyFactsError, match=r"context\.recorded"):
            reporter.record("a.large", large)
        await reporter.recorded()
        reporter.record("a.large", large)
        assert len(await reporter.close()) == 1

    async def test_a_fact_of_unknown_outcome_is_written_once(
        self, database_url: str, cluster_folder: Path, emitter: ExecutionEventEmitter
    ) -> None:
        async with (
            cutting_proxy(database_url, cluster_folder) as (proxy, url),
            Database(url, append_lanes=1, notify=False, connect_timeout=2) as database,
        ):
            lease = await claimed_through(database)
            facts = [Record(fact="a.one", data={}), Record(fact="a.two", data={})]
            for fault in (Fault.LOSE_ANSWER, Fault.LOSE_STATEMENT):
                await self.fail(proxy, lease, facts[-1], fault)
                await lease.apply(*facts, ReportProgress(percentage=1))
                facts = [Record(fact="a.three", data={})]
            assert await said(ExecutionRepository(database), lease) == [0.5, "a.two", "a.one", 1, "a.three"]

    async def test_one_that_was_sent_without_a_task_is_written_once_too(
        self, database_url: str, cluster_folder: Path, emitter: ExecutionEventEmitter
    ) -> None:
        async with (
            cutting_proxy(database_url, cluster_folder) as (proxy, url),
            Database(url, append_lanes=1, append_patience=1, notify=False, connect_timeout=2) as database,
        ):
            repository, lease = ExecutionRepository(database), await claimed_through(database)
            reporter = ExecutionProgressTracker(repository, emitter, interval=NEVER).follow(lease)
            for fault in (Fault.LOSE_ANSWER, Fault.LOSE_STATEMENT):
                proxy.arm(fault, then_close=True)
                reporter.record("a.fact", None)
                with capture_logs() as logs:
                    waiting = asyncio.create_task(reporter.recorded())
                    await not_written(logs)
                assert not waiting.done()
                proxy.open_door()
                await waiting
            assert await said(repository, lease) == [0.5, "a.fact", "a.fact"]

    async def fail(self, proxy: CuttingProxy, lease: Lease, fact: Record, fault: Fault) -> None:
        proxy.arm(fault, then_close=True)
        with pytest.raises(OutcomeUnknownError):
            await lease.apply(fact, patience=0.3)
        proxy.open_door()


async def not_written(logs: Sequence[Mapping[str, Any]]) -> None:
    """Wait until the log says that what was recorded is not, or that nobody knows."""
    await eventually(lambda: any(one["event"] == "progress.not_written" for one in logs), within=20, what="a failure")


async def claimed_through(database: Database) -> Lease:
    """The lease of a new execution, whose lane has its statement prepared."""
    repository, workers = ExecutionRepository(database), WorkerStore(database)
    worker_id = new_id()
    await workers.register(worker_id, ["noop"], concurrency=10, timeout_seconds=60)
    await submit(repository)
    (claimed,) = await workers.claim(worker_id, {"noop": False}, 1)
    emitter = ExecutionEventEmitter(InProcessEventBus())
    lease = Lease(repository, claimed, ExecutionStateManager(repository, emitter))
    await lease.apply(ReportProgress(percentage=0.5))
    return lease


class TestFromHandlers:
    async def test_as_a_task(self, service: ExecutionService) -> None:
        async def handler(context: TaskContext, parameters: JsonObject) -> None:
            context.record("step.started", {"step": 1})
            await context.recorded()
            context.record("step.ended", {"step": 1})

        assert await self.facts(service, handler) == [("step.started", {"step": 1}), ("step.ended", {"step": 1})]

    async def test_in_a_thread(self, service: ExecutionService) -> None:
        """It may say more than can wait at a time: it waits for room."""
        text = "x" * 250_000

        def handler(context: TaskContext, parameters: JsonObject) -> None:
            with pytest.raises(InvalidDocumentError):
                context.record("no name")
            for number in range(2 * FACTS_LIMIT // len(text)):
                context.record("a.large", {"number": number, "text": text})

        numbers = [data["number"] for _, data in await self.facts(service, handler)]
        assert numbers == list(range(2 * FACTS_LIMIT // len(text)))

    async def test_in_a_process(self, service: ExecutionService) -> None:
        facts = await self.facts(service, process_handlers.record, isolation="process")
        assert facts == [("process.began", {"n": 1}), ("process.ends", {})]

    async def test_with_the_end_of_a_cancelled_run(self, service: ExecutionService) -> None:
        started = asyncio.Event()

        async def handler(context: TaskContext, parameters: JsonObject) -> None:
            context.progress(10)
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                context.progress(20)
                context.record("step.stopped")

        service.registry.register(KIND, handler)
        async with running_worker(service), asyncio.timeout(15):
            execution = await service.create_execution(KIND)
            await started.wait()
            await service.cancel_execution(execution.id)
            after = await ended(service, execution.id)
        assert after.state is ExecutionState.CANCELLED
        assert facts_of(await service.history(execution.id)) == [("step.stopped", {})]

    async def facts(self, service: ExecutionService, handler: Any, **options: Any) -> list[tuple[str, JsonObject]]:
        service.registry.register(KIND, handler, **options)
        async with running_worker(service):
            after = await ended(service, (await service.create_execution(KIND, {"n": 1})).id)
        assert after.error is None
        await assert_row_is_fold(service.repository, after.id)
        return facts_of(await service.history(after.id, limit=1000))
