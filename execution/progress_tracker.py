"""`ExecutionProgressTracker`: progress from outside at once, progress of running handlers coalesced."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, Field

from execution.domain.commands import ReportProgress
from execution.domain.documents import to_document
from execution.domain.execution import Execution, JsonObject
from execution.domain.progress import checked_percentage
from execution.errors import DatabaseError, InvalidExecutionStateError, LeaseLost
from execution.event_emitter import ExecutionEventEmitter
from execution.lease import Lease
from execution.repository.repository import ExecutionRepository
from execution.state_manager import ExecutionStateManager

log = structlog.get_logger(__name__)


class ExecutionProgressUpdate(BaseModel):
    """A progress report as it comes in. `context` is merged into what earlier reports gave."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    percentage: float = Field(description="How far, 0 to 100.", examples=[42.5])
    message: str | None = Field(default=None, max_length=2000, description="For people.")
    context: JsonObject | None = Field(default=None, description="For programs; merged into what was reported before.")


class ExecutionProgressTracker:
    """Records progress."""

    def __init__(
        self,
        repository: ExecutionRepository,
        event_emitter: ExecutionEventEmitter,
        *,
        state_manager: ExecutionStateManager | None = None,
        interval: float = 0.25,
        document_limit: int = 262_144,
    ) -> None:
        self.repository = repository
        self.event_emitter = event_emitter
        self._state_manager = state_manager or ExecutionStateManager(repository, event_emitter)
        self._interval = interval
        self._document_limit = document_limit

    async def update_progress(
        self,
        execution_id: UUID,
        progress_data: ExecutionProgressUpdate,
        *,
        expected_version: int | None = None,
        actor: str | None = None,
    ) -> Execution:
        """Record a report from outside at once. A percentage lower than the recorded one counts as the recorded one.

        Raises:
            ExecutionNotFoundError: no such execution.
            InvalidExecutionStateError: it is not RUNNING.
            InvalidProgressError: the percentage is not within 0..100.
            VersionConflict: it is not at `expected_version`.
            DatabaseError: nothing was recorded.
        """
        command = self.command(progress_data.percentage, progress_data.message, progress_data.context)
        return await self._state_manager.apply(execution_id, command, expected_version=expected_version, actor=actor)

    def command(self, percentage: float, message: str | None, context: JsonObject | None) -> ReportProgress:
        """The command of a report, checked before anything is written."""
        checked = to_document(context, "the progress context", self._document_limit) if context else None
        return ReportProgress(percentage=checked_percentage(percentage), message=message, context=checked)

    def follow(self, lease: Lease) -> ProgressReporter:
        """What takes the reports of one run."""
        return ProgressReporter(self, lease, self._interval)


class ProgressReporter:
    """The reports of one run: written at most once per interval, merged in between, the last one always.

    Used from the event loop's thread only.
    """

    __slots__ = ("_interval", "_lease", "_next_write_at", "_timer", "_tracker", "_unwritten", "_write")

    def __init__(self, tracker: ExecutionProgressTracker, lease: Lease, interval: float) -> None:
        self._tracker = tracker
        self._lease = lease
        self._interval = interval
        self._unwritten: list[ReportProgress] = []
        self._timer: asyncio.Handle | None = None
        self._write: asyncio.Task[None] | None = None
        self._next_write_at = 0.0

    def report(self, percentage: float, message: str | None, context: JsonObject | None) -> None:
        """Take a report.

        Raises:
            InvalidProgressError: the percentage is not within 0..100.
            InvalidDocumentError, DocumentTooLargeError: of the context.
        """
        report = self._tracker.command(percentage, message, context)
        if self._interval > 0 and self._unwritten:
            self._unwritten = [_merged(self._unwritten[0], report)]
        else:
            self._unwritten.append(report)
        if self._timer is None and self._write is None:
            self._schedule()

    async def close(self) -> list[ReportProgress]:
        """Stop writing; returns the reports that are not written yet, to be written with the run's end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._write is not None and not self._write.done():
            await asyncio.wait([self._write])
        left, self._unwritten = self._unwritten, []
        return left

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due = self._next_write_at
        self._timer = loop.call_at(due, self._begin_write) if due > loop.time() else loop.call_soon(self._begin_write)

    def _begin_write(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._next_write_at = loop.time() + self._interval
        self._write = loop.create_task(self._write_unwritten(), name="progress")

    async def _write_unwritten(self) -> None:
        reports, self._unwritten = self._unwritten, []
        try:
            await self._lease.apply(*reports)
        except (LeaseLost, InvalidExecutionStateError):
            pass  # It is being cancelled, or somebody else has it: what is left to say of it will say so.
        except DatabaseError as error:
            log.warning("progress.not_written", execution_id=str(self._lease.execution.id), error=str(error))
            self._unwritten = [*reports, *self._unwritten]
        finally:
            self._write = None
            if self._unwritten:
                self._schedule()


def _merged(earlier: ReportProgress, later: ReportProgress) -> ReportProgress:
    """Two reports as one: what it comes to when both are recorded."""
    return ReportProgress(
        percentage=max(earlier.percentage, later.percentage),
        message=later.message if later.message is not None else earlier.message,
        context=(earlier.context or {}) | later.context if later.context else earlier.context,
    )
