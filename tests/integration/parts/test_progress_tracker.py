"""`ExecutionProgressTracker`: reports from outside at once; those of a run coalesced, the last one always written."""

from __future__ import annotations

import asyncio
from math import nan

import pytest

from execution.domain.commands import Cancel, ReportProgress
from execution.domain.state import ExecutionState
from execution.errors import (
    DocumentTooLargeError,
    ExecutionNotFoundError,
    InvalidDocumentError,
    InvalidExecutionStateError,
    InvalidProgressError,
    VersionConflict,
)
from execution.event_emitter import ExecutionEventEmitter
from execution.ids import new_id
from execution.lease import Lease
from execution.progress_tracker import ExecutionProgressTracker, ExecutionProgressUpdate
from execution.repository.repository import ExecutionRepository
from execution.state_manager import ExecutionStateManager
from tests.support.stored import assert_row_is_fold, read, submit
from tests.support.waiting import eventually

NEVER = 3600.0
"""An interval after which no report of a test is written by itself."""


@pytest.fixture
def tracker(repository: ExecutionRepository, emitter: ExecutionEventEmitter) -> ExecutionProgressTracker:
    return ExecutionProgressTracker(repository, emitter, interval=0.0)


def coalescing(repository: ExecutionRepository, emitter: ExecutionEventEmitter) -> ExecutionProgressTracker:
    return ExecutionProgressTracker(repository, emitter, interval=NEVER)


async def percentages(repository: ExecutionRepository, lease: Lease) -> list[float]:
    history = await repository.get_history(lease.execution.id)
    return [item.data["percentage"] for item in history if item.type == "agent.execution.progress"]


class TestFromOutside:
    async def test_it_is_recorded_at_once(
        self,
        tracker: ExecutionProgressTracker,
        repository: ExecutionRepository,
        state_manager: ExecutionStateManager,
    ) -> None:
        execution = await submit(repository)
        await state_manager.change_state(execution.id, ExecutionState.RUNNING)
        await tracker.update_progress(execution.id, ExecutionProgressUpdate(percentage=10, context={"a": 1, "b": 1}))
        update = ExecutionProgressUpdate(percentage=42.5, message="nearly half", context={"b": 2})
        after = await tracker.update_progress(execution.id, update)
        assert (after.progress.percentage, after.progress.message) == (42.5, "nearly half")
        assert after.progress.context == {"a": 1, "b": 2}
        assert await assert_row_is_fold(repository, execution.id) == after

    async def test_it_never_falls(self, tracker: ExecutionProgressTracker, lease: Lease) -> None:
        await tracker.update_progress(lease.execution.id, ExecutionProgressUpdate(percentage=60))
        after = await tracker.update_progress(
            lease.execution.id, ExecutionProgressUpdate(percentage=30, message="late")
        )
        assert (after.progress.percentage, after.progress.message) == (60, "late")

    @pytest.mark.parametrize("percentage", [-0.1, 100.1, nan, float("inf")])
    async def test_out_of_range(
        self,
        tracker: ExecutionProgressTracker,
        repository: ExecutionRepository,
        lease: Lease,
        percentage: float,
    ) -> None:
        with pytest.raises(InvalidProgressError, match="between 0 and 100"):
            await tracker.update_progress(lease.execution.id, ExecutionProgressUpdate(percentage=percentage))
        assert await read(repository, lease.execution.id) == lease.execution

    async def test_where_none_is_due(self, tracker: ExecutionProgressTracker, repository: ExecutionRepository) -> None:
        waiting = await submit(repository)
        with pytest.raises(InvalidExecutionStateError, match="only a RUNNING execution reports progress"):
            await tracker.update_progress(waiting.id, ExecutionProgressUpdate(percentage=1))
        with pytest.raises(ExecutionNotFoundError):
            await tracker.update_progress(new_id(), ExecutionProgressUpdate(percentage=1))

    async def test_a_stale_version(self, tracker: ExecutionProgressTracker, lease: Lease) -> None:
        with pytest.raises(VersionConflict):
            await tracker.update_progress(
                lease.execution.id, ExecutionProgressUpdate(percentage=1), expected_version=lease.execution.version - 1
            )

    async def test_a_context_that_cannot_be_stored(
        self, repository: ExecutionRepository, emitter: ExecutionEventEmitter, lease: Lease
    ) -> None:
        tracker = ExecutionProgressTracker(repository, emitter, document_limit=1024)
        for context, error in (({"x": nan}, InvalidDocumentError), ({"x": "y" * 2000}, DocumentTooLargeError)):
            with pytest.raises(error):
                await tracker.update_progress(
                    lease.execution.id, ExecutionProgressUpdate(percentage=1, context=context)
                )
        assert await read(repository, lease.execution.id) == lease.execution

    async def test_a_message_with_characters_that_cannot_be_stored(
        self, tracker: ExecutionProgressTracker, repository: ExecutionRepository, lease: Lease
    ) -> None:
        """Such as a file name that is not UTF-8: shown with replacements, for a message is only for people."""
        update = ExecutionProgressUpdate.model_construct(percentage=5, message="a\x00b\udcff", context=None)
        await tracker.update_progress(lease.execution.id, update)
        assert (await assert_row_is_fold(repository, lease.execution.id)).progress.message == "a\ufffdb\ufffd"


class TestOfARun:
    async def test_without_an_interval_every_report_is_recorded(
        self, tracker: ExecutionProgressTracker, repository: ExecutionRepository, lease: Lease
    ) -> None:
        reporter = tracker.follow(lease)
        for percentage in range(10, 110, 10):
            reporter.report(percentage, None, None)
        await lease.apply(*await reporter.close())
        assert await percentages(repository, lease) == list(range(10, 110, 10))

    async def test_a_tight_loop_is_coalesced_and_its_last_report_written(
        self, repository: ExecutionRepository, emitter: ExecutionEventEmitter, lease: Lease
    ) -> None:
        reporter = coalescing(repository, emitter).follow(lease)
        reporter.report(0.5, "first", {"first": True})

        async def first_is_written() -> list[float]:
            return await percentages(repository, lease)

        await eventually(first_is_written, within=5, what="the first report is written at once")
        for number in range(1, 1001):
            reporter.report(number / 10, f"step {number}", {"step": number})
        left = await reporter.close()
        after = await lease.apply(*left)
        assert await percentages(repository, lease) == [0.5, 100.0]
        assert after.progress.message == "step 1000"
        assert after.progress.context == {"first": True, "step": 1000}

    async def test_reports_made_before_the_write_began_are_one(
        self, repository: ExecutionRepository, emitter: ExecutionEventEmitter, lease: Lease
    ) -> None:
        reporter = coalescing(repository, emitter).follow(lease)
        reporter.report(10, "ten", {"a": 1})
        reporter.report(5, None, {"b": 2})
        (left,) = await reporter.close()
        assert isinstance(left, ReportProgress)
        assert (left.percentage, left.message, left.context) == (10, "ten", {"a": 1, "b": 2})

    async def test_what_is_wrong_is_raised_where_it_is_reported(
        self, tracker: ExecutionProgressTracker, lease: Lease
    ) -> None:
        reporter = tracker.follow(lease)
        with pytest.raises(InvalidProgressError):
            reporter.report(101, None, None)
        with pytest.raises(InvalidDocumentError):
            reporter.report(50, None, {"x": object()})
        assert await reporter.close() == []

    async def test_progress_of_one_that_is_being_cancelled_is_dropped(
        self,
        tracker: ExecutionProgressTracker,
        repository: ExecutionRepository,
        state_manager: ExecutionStateManager,
        lease: Lease,
    ) -> None:
        await state_manager.apply(lease.execution.id, Cancel())
        reporter = tracker.follow(lease)
        reporter.report(50, None, None)

        async def seen() -> bool:
            return lease.execution.state is ExecutionState.CANCELLING

        await eventually(seen, within=5, what="the write finds the cancellation")
        assert await reporter.close() == []
        assert await percentages(repository, lease) == []

    async def test_closing_waits_for_the_write_under_way(
        self, tracker: ExecutionProgressTracker, repository: ExecutionRepository, lease: Lease
    ) -> None:
        reporter = tracker.follow(lease)
        for percentage in (10, 20, 30):
            reporter.report(percentage, None, None)
            await asyncio.sleep(0)
        left = await reporter.close()
        written = await percentages(repository, lease)
        assert written + [one.percentage for one in left if isinstance(one, ReportProgress)] == [10, 20, 30]
