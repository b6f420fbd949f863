"""`ExecutionProgressTracker`: progress from outside at once, progress of running handlers coalesced.

What a handler says while it runs goes one way: its progress and its facts are written in the order they were given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, Field

from execution.domain.commands import Record, ReportProgress
from execution.domain.documents import checked_size, document_size, to_document
from execution.domain.execution import Execution, JsonObject
from execution.domain.facts import checked_fact
from execution.domain.progress import checked_report
from execution.errors import (
    DatabaseError,
    InvalidExecutionStateError,
    LeaseLost,
    TooManyFactsError,
    VersionConflict,
)
from execution.event_emitter import ExecutionEventEmitter
from execution.lease import Begun, Lease
from execution.repository.repository import ExecutionRepository
from execution.state_manager import ExecutionStateManager

log = structlog.get_logger(__name__)

FACTS_LIMIT = 4_194_304
"""Bytes of facts of one run that may wait to be written (4 MiB)."""
RETRY_SECONDS = 0.5
"""Time between two tries to write facts that a handler waits for."""

Said = ReportProgress | Record
"""What a handler says while it runs."""


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
        return checked_report(percentage, message, checked)

    def fact(self, name: str, data: JsonObject | None) -> Record:
        """The command of a fact, checked before anything is written."""
        return checked_fact(name, data, self._document_limit)

    def size_of(self, name: str, data: JsonObject) -> int:
        """The bytes of a fact's data, checked as `fact` does."""
        return checked_size(data, f"the data of the fact {name}", self._document_limit)

    def follow(self, lease: Lease) -> ProgressReporter:
        """What takes the reports of one run."""
        return ProgressReporter(self, lease, self._interval)


class ProgressReporter:
    """The reports and facts of one run: written at most once per interval, the last one always. Reports are merged in
    between; facts never.

    Used from the event loop's thread only.
    """

    __slots__ = (
        "_facts_size",
        "_interval",
        "_is_writing",
        "_lease",
        "_next_write_at",
        "_task",
        "_timer",
        "_tracker",
        "_unwritten",
        "_waiting",
    )

    def __init__(self, tracker: ExecutionProgressTracker, lease: Lease, interval: float) -> None:
        self._tracker = tracker
        self._lease = lease
        self._interval = interval
        self._unwritten: list[Said] = []
        self._facts_size = 0
        self._timer: asyncio.Handle | None = None
        self._next_write_at = 0.0
        self._is_writing = False
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[BaseException | None]] = []
        """Who waits for the write under way: each by a future of its own, which may be cancelled."""

    def report(self, percentage: float, message: str | None, context: JsonObject | None) -> None:
        """Take a report.

        Raises:
            InvalidProgressError: the percentage is not within 0..100.
            InvalidDocumentError, DocumentTooLargeError: of the context.
        """
        report = self._tracker.command(percentage, message, context)
        last = self._unwritten[-1] if self._interval > 0 and self._unwritten else None
        if isinstance(last, ReportProgress):
            self._unwritten[-1] = _merged(last, report)
        else:
            self._unwritten.append(report)
        self._schedule()

    def record(self, name: str, data: JsonObject | None) -> None:
        """Take a fact.

        Raises:
            InvalidDocumentError, DocumentTooLargeError: of its name or its data.
            TooManyFactsError: those that wait to be written leave no room for it.
        """
        fact = self._tracker.fact(name, data)
        self._take(fact, document_size(fact.data))

    def record_own(self, name: str, data: JsonObject) -> None:
        """Take a fact of this service's own: a name that is one, and data that nobody changes; neither is copied.

        Raises:
            InvalidDocumentError, DocumentTooLargeError, TooManyFactsError: as `record`.
        """
        self._take(Record(fact=name, data=data), self._tracker.size_of(name, data))

    def _take(self, fact: Record, size: int) -> None:
        size += len(fact.fact)
        if self._facts_size + size > FACTS_LIMIT:
            raise TooManyFactsError(self._lease.execution.id, FACTS_LIMIT)
        self._facts_size += size
        self._unwritten.append(fact)
        self._schedule()

    async def record_in_turn(self, name: str, data: JsonObject | None) -> None:
        """Take a fact once there is room for it; for who can wait."""
        if self._facts_size > FACTS_LIMIT // 2:
            await self.recorded()
        self.record(name, data)

    async def recorded(self) -> None:
        """Return when everything taken so far is in the log; while PostgreSQL is away, wait for it.

        Raises:
            LeaseLost: somebody else decides over the execution now.
            DatabaseError: PostgreSQL refuses what was to be written.
        """
        while self._unwritten or self._is_writing:
            if not self._is_writing:
                self._begin_write()
            problem = await self._end_of_write()
            if problem is not None:
                if not isinstance(problem, DatabaseError) or not problem.retriable:
                    raise problem
                await asyncio.sleep(RETRY_SECONDS)
        if self._lease.is_lost:
            raise LeaseLost(self._lease.execution.id, self._lease.epoch)

    async def close(self) -> list[Said]:
        """Stop writing; returns what is not written yet, to be written with the run's end."""
        while (left := self.close_at_once()) is None:
            await asyncio.wait([self._end_of_write()])
        return left

    def close_at_once(self) -> list[Said] | None:
        """`close` where no write is under way; None where one is."""
        self._stop_timer()
        if self._is_writing:
            return None
        left, self._unwritten = self._unwritten, []
        return left

    def _schedule(self) -> None:
        if self._timer is not None or self._is_writing:
            return
        loop = asyncio.get_running_loop()
        due = self._next_write_at
        self._timer = loop.call_at(due, self._begin_write) if due > loop.time() else loop.call_soon(self._begin_write)

    def _begin_write(self) -> None:
        """Write what was said so far: without a task, which it only takes where something stands in the way."""
        self._stop_timer()
        self._next_write_at = asyncio.get_running_loop().time() + self._interval
        said, self._unwritten, self._facts_size = self._unwritten, [], 0
        self._is_writing = True
        begun = self._lease.begin(said)
        if begun is None:
            self._write_in_task(said)
        else:
            begun.written.add_done_callback(partial(self._settle, begun, said))

    def _settle(self, begun: Begun, said: list[Said], _: asyncio.Future[Execution]) -> None:
        problem: BaseException | None = None
        try:
            self._lease.settle(begun)
        except VersionConflict:
            self._write_in_task(said)
            return
        except DatabaseError as error:
            problem = self._not_written(said, error)
        except BaseException as error:
            problem = error
            raise
        finally:
            if self._task is None:
                self._end_write(problem)

    def _write_in_task(self, said: list[Said]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._write(said), name="progress")

    async def _write(self, said: list[Said]) -> None:
        problem: BaseException | None = None
        try:
            await self._lease.apply(*said)
        except LeaseLost:
            pass  # somebody else has it: what is left to say of it, they say
        except InvalidExecutionStateError:
            self._take_back(facts_among(said) if len(facts_among(said)) < len(said) else [])
        except DatabaseError as error:
            problem = self._not_written(said, error)
        except BaseException as error:
            problem = error
            raise
        finally:
            self._task = None
            self._end_write(problem)

    def _not_written(self, said: list[Said], error: DatabaseError) -> DatabaseError:
        log.warning("progress.not_written", execution_id=str(self._lease.execution.id), error=str(error))
        self._take_back(said)
        return error

    def _end_write(self, problem: BaseException | None) -> None:
        self._is_writing = False
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(problem)
        if self._unwritten:
            self._schedule()

    def _end_of_write(self) -> asyncio.Future[BaseException | None]:
        """The end of the write under way, with what was wrong; what PostgreSQL did not take is written later then."""
        end: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(end)
        return end

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take_back(self, said: Sequence[Said]) -> None:
        self._unwritten = [*said, *self._unwritten]
        self._facts_size += sum(document_size(one.data) + len(one.fact) for one in facts_among(said))


def facts_among(said: Sequence[Said]) -> list[Record]:
    """What of it is taken until the end: progress is not, once the execution is paused or being cancelled."""
    return [one for one in said if isinstance(one, Record)]


def _merged(earlier: ReportProgress, later: ReportProgress) -> ReportProgress:
    """Two reports as one: what it comes to when both are recorded."""
    return ReportProgress(
        percentage=max(earlier.percentage, later.percentage),
        message=later.message if later.message is not None else earlier.message,
        context=(earlier.context or {}) | later.context if later.context else earlier.context,
    )
