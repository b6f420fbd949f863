"""`ExecutionService`: the facade. Everything a client may ask, and the parts that answer it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from copy import copy
from typing import Any, Self, Unpack
from uuid import UUID

from events.bus import EventBus, InProcessEventBus
from events.commands import CommandBus
from execution.admission import Admission
from execution.background_manager import BackgroundTaskManager
from execution.bulk import BulkCommands, Item
from execution.bulk_answers import Answer, BatchOptions, BulkCancellation, CancellationOptions
from execution.command_options import CommandOptions
from execution.domain.commands import Cancel, Command, Create, Finish, Pause, Resume, Retry, Start
from execution.domain.documents import to_document
from execution.domain.execution import Execution, JsonObject
from execution.domain.facts import checked_fact
from execution.domain.history import HistoryItem
from execution.domain.outcome import reported
from execution.end_watcher import EndWatcher
from execution.errors import WaitTimeoutError
from execution.event_emitter import ExecutionEventEmitter
from execution.handlers import HandlerRegistry
from execution.idempotency import IdempotencyKeys
from execution.keyed_answer import AnswerTo
from execution.kinds import KnownKinds
from execution.lifecycle import kept_running
from execution.log_stream import Follower, LogFilter, LogStream
from execution.progress_tracker import ExecutionProgressTracker
from execution.reader import ExecutionReader
from execution.relay import LogRelay
from execution.repository.database import Database
from execution.repository.event_log import EventLog
from execution.repository.listing import MAX_PAGE_SIZE
from execution.repository.log_position import StreamPosition
from execution.repository.repository import ExecutionRepository
from execution.repository.workers import WorkerStore
from execution.settings import Settings
from execution.shielded import to_its_end
from execution.state_manager import ExecutionStateManager
from execution.submission import Submission
from execution.task_runner import ExecutionTaskRunner
from execution.watcher import LogWatcher, Watch
from execution.worker import Worker


class ExecutionService(ExecutionReader):
    """Submits, drives, watches and reads executions of one tenant, which is that of the settings; `for_tenant` gives
    the same service for another one.

    Between `start()` and `stop()` (or inside `async with`) it keeps loops in the background: for those who watch, for
    the event bus, and for admission. Besides what each method names, every one may raise `DatabaseError`.

    Commands take the keywords of `CommandOptions`. A command whose `command_id` is in its execution's log has been
    carried out: the answer is its first outcome, the execution as it was then, and `expected_version` is not checked
    again. So a retry under the same id tells what became of a command after `OutcomeUnknownError`. The id remembers an
    effect and nothing else: a command that was refused or changed nothing is decided anew, and another command under
    an id in the log is answered with that first outcome.
    """

    _actor = "client"

    def __init__(
        self,
        db: Database,
        event_bus: EventBus,
        command_bus: CommandBus,
        settings: Settings,
        *,
        registry: HandlerRegistry | None = None,
    ) -> None:
        self.settings, self.event_bus = settings, event_bus
        self.registry = registry or HandlerRegistry()
        self.event_emitter = ExecutionEventEmitter(event_bus)
        repository = ExecutionRepository(db)
        super().__init__(repository, ExecutionStateManager(repository, self.event_emitter), settings.tenant_id)
        self.progress_tracker = ExecutionProgressTracker(
            self.repository,
            self.event_emitter,
            state_manager=self.state_manager,
            interval=settings.progress_interval_seconds,
            document_limit=settings.inline_limit_bytes,
        )
        self.task_runner = ExecutionTaskRunner(
            self.repository,
            self.state_manager,
            self.progress_tracker,
            command_bus,
            registry=self.registry,
            model_timeout=settings.model_timeout_seconds,
            document_limit=settings.inline_limit_bytes,
        )
        self.background_tasks = self._new_background_tasks()
        self.idempotency_keys = IdempotencyKeys(db, keep_hours=settings.idempotency_key_hours)
        self._workers = WorkerStore(db)
        self.admission = Admission(db, longest_wait=settings.longest_wait_seconds)
        self._watcher = self._new_watcher()
        self._end_watcher = EndWatcher(self.state_manager, poll_interval=settings.poll_interval_seconds)
        self._log_stream = self._new_log_stream(db)
        self._kinds = KnownKinds(self.registry, self._workers)
        self._bulk = BulkCommands(self.repository, self.state_manager, self._kinds)
        self._stack = AsyncExitStack()

    # Life

    async def start(self, *, relay: bool = True) -> None:
        """Start the background loops; the event bus is told only with `relay`."""
        await self._stack.enter_async_context(kept_running("clock", self.repository.db.keep_time))
        await self._stack.enter_async_context(kept_running("watcher", self._watcher.run))
        await self._stack.enter_async_context(kept_running("log stream", self._log_stream.run))
        await self._stack.enter_async_context(kept_running("end watcher", self._end_watcher.run))
        await self._stack.enter_async_context(kept_running("admission", self.admission.run))
        await self._stack.enter_async_context(kept_running("idempotency keys", self.idempotency_keys.run))
        if relay and isinstance(self.event_bus, InProcessEventBus):
            bus, db = self.event_bus, self.repository.db
            log_relay = LogRelay(
                EventLog(db),
                self.event_emitter,
                db.wakeups,
                is_heard=lambda: bus.has_subscribers,
                poll_interval=self.settings.poll_interval_seconds,
            )
            bus.feed_from(log_relay.attach)
            await self._stack.enter_async_context(kept_running("relay", log_relay.run))

    async def stop(self) -> None:
        """Stop them, in reverse order; a second stop does nothing."""
        await to_its_end(self._stack.aclose())

    def create_worker(self) -> Worker:
        """A worker that runs executions in this process; start it with its `run()`."""
        self.background_tasks = self._new_background_tasks()
        return Worker(
            # Of its own: it keeps a connection, which two workers cannot use at once.
            workers=WorkerStore(self.repository.db),
            runner=self.task_runner,
            tasks=self.background_tasks,
            settings=self.settings,
        )

    def for_tenant(self, tenant_id: str, actor: str = "client") -> Self:
        """This service as another tenant sees it: the same parts, which start and stop with this one.

        `actor` is who its changes are recorded to be by.
        """
        view = copy(self)
        view._tenant_id, view._actor = tenant_id, actor
        return view

    # Submitting

    async def create_execution(
        self, kind: str, parameters: Mapping[str, Any] | None = None, *, command_id: UUID | None = None, **fields: Any
    ) -> Execution:
        """Record a new execution; unless `start=False` it waits for a worker at once.

        Further fields are those of `Submission`: `agent_id`, `task_id`, `priority`, `run_at`, `retry`, time limits, ...
        Where they name no `id`, a `command_id` becomes the execution's id.

        Raises:
            UnknownKindError: no handler of that kind is registered here, and no live worker offers it.
            InvalidDocumentError: a field, or a parameter the handler would not accept; it says which and why.
            DocumentTooLargeError: the parameters exceed the inline bound.
            DuplicateExecutionError: the given id exists, and not by this command.
            OverloadedError: more is submitted than can be done; the same submission may be repeated.
        """
        self.admission.check(kind)  # before the submission is even looked at: a refusal must cost next to nothing
        submission = Submission.checked(kind=kind, parameters={} if parameters is None else parameters, **fields)
        if not self._kinds.knows(kind):
            await self._kinds.ask(kind)
        command = self._to_command(submission, command_id)
        return await self.state_manager.create(command, actor=self._actor, command_id=command_id)

    async def submit(
        self, submission: Submission, *, command_id: UUID | None = None, answer: AnswerTo | None = None
    ) -> Execution:
        """Record a new execution; as `create_execution`. `answer`: as in `CommandOptions`."""
        if not self._kinds.knows(submission.kind):
            await self._kinds.ask(submission.kind)
        command = self._to_command(submission, command_id)
        return await self.state_manager.create(command, actor=self._actor, command_id=command_id, answer=answer)

    async def create_executions(self, submissions: Sequence[Item], **options: Unpack[BatchOptions]) -> list[Answer]:
        """Record up to 1,000 executions together. Each is answered for itself, in order: by an error where
        `create_execution` would raise it. The same call under the same `command_id` makes none twice.

        Raises:
            InvalidDocumentError: more than 1,000.
        """
        return await self._bulk.create(submissions, self._to_command, actor=self._actor, **options)

    # Following

    async def watch(self, execution_id: UUID, *, after_version: int = 0) -> AsyncIterator[HistoryItem]:
        """Its log after a version, live, until the entry that completes it (or for ever if it never ends).

        Breaking off and going on with the last version seen, here or in another process, gives every entry once.

        Raises:
            ExecutionNotFoundError: no such execution.
        """
        execution = await self.get_execution(execution_id)
        if execution.is_terminal and after_version >= execution.version:
            return
        with self.watching(execution, after_version) as watch:
            del execution  # it may be large, and the watch long
            while not watch.has_ended:
                for item in await watch.take():
                    yield item

    def watching(self, execution: Execution, after_version: int = 0) -> AbstractContextManager[Watch]:
        """The same of an execution that was just read, for a caller that waits for other things as well."""
        return self._watcher.watching(execution.id, after_version, known_version=execution.version)

    def following(
        self, wanted: Mapping[str, Any] | None = None, after: StreamPosition | None = None
    ) -> AbstractAsyncContextManager[Follower]:
        """The log of the tenant, live: what `LogFilter` admits, after a position or from now on.

        Raises, when it is entered:
            InvalidPositionError: this log has not come to that position.
        """
        return self._log_stream.following(LogFilter(tenant_id=self._tenant_id, **wanted or {}), after)

    async def wait(self, execution_id: UUID, timeout: float | None = None) -> Execution:  # noqa: ASYNC109
        """The execution once it has ended.

        Raises:
            ExecutionNotFoundError: no such execution.
            WaitTimeoutError: it has not ended after `timeout` seconds; it goes on.
        """
        try:
            async with asyncio.timeout(timeout):
                with self._end_watcher.awaiting(execution_id) as end:
                    if self._end_watcher.has_just_begun(execution_id, self._tenant_id):
                        return await end
                    await asyncio.sleep(0)  # a worker that was just woken for it goes first
                    execution = await self.get_execution(execution_id)
                    return execution if execution.is_terminal else await end
        except TimeoutError:
            raise WaitTimeoutError(execution_id, timeout or 0.0) from None

    # Commands

    async def start_execution(
        self, execution_id: UUID, *, reason: str | None = None, **options: Unpack[CommandOptions]
    ) -> Execution:
        """Let a CREATED execution wait for a worker; errors as `cancel_execution`."""
        return await self._command(execution_id, Start(reason=reason), options)

    async def pause_execution(
        self, execution_id: UUID, *, reason: str | None = None, **options: Unpack[CommandOptions]
    ) -> Execution:
        """Hold it back: a waiting one at once, a running one at its handler's next pause point; errors as above."""
        return await self._command(execution_id, Pause(reason=reason), options)

    async def resume_execution(
        self, execution_id: UUID, *, reason: str | None = None, **options: Unpack[CommandOptions]
    ) -> Execution:
        """Let a paused one go on, or withdraw a pause that has not happened yet; errors as above."""
        return await self._command(execution_id, Resume(reason=reason), options)

    async def cancel_execution(
        self, execution_id: UUID, *, reason: str | None = None, **options: Unpack[CommandOptions]
    ) -> Execution:
        """Stop it: at once where no handler runs, otherwise within the cancellation grace.

        Raises:
            ExecutionNotFoundError: no such execution.
            InvalidExecutionStateError: its state refuses; the error names the commands that are allowed.
            VersionConflict: it is not at `expected_version`.
        """
        command = Cancel(reason=reason, grace=self.settings.cancel_grace_seconds)
        return await self._command(execution_id, command, options)

    async def cancel_executions(
        self,
        filters: Mapping[str, Any],
        *,
        reason: str | None = None,
        limit: int = MAX_PAGE_SIZE,
        **options: Unpack[CancellationOptions],
    ) -> BulkCancellation:
        """Cancel what matches the filters of `list_executions` and has not ended, up to `limit`, newest first.

        Raises:
            InvalidFilterError: no filter, an unknown one, or a limit out of range.
        """
        command = Cancel(reason=reason, grace=self.settings.cancel_grace_seconds)
        return await self._bulk.cancel(self._tenant_id, filters, command, limit=limit, actor=self._actor, **options)

    async def retry_execution(
        self, execution_id: UUID, *, reason: str | None = None, **options: Unpack[CommandOptions]
    ) -> Execution:
        """Try a FAILED or CANCELLED one once more, as a new attempt; errors as above."""
        return await self._command(execution_id, Retry(reason=reason), options)

    async def report_progress(
        self,
        execution_id: UUID,
        percentage: float,
        message: str | None = None,
        context: JsonObject | None = None,
        **options: Unpack[CommandOptions],
    ) -> Execution:
        """Record progress of a RUNNING one from outside, 0 to 100.

        Raises:
            ExecutionNotFoundError, InvalidExecutionStateError, VersionConflict: as above.
            InvalidProgressError: the percentage is not within 0..100.
        """
        command = self.progress_tracker.command(percentage, message, context)
        return await self._command(execution_id, command, options)

    async def record(
        self, execution_id: UUID, name: str, data: JsonObject | None = None, **options: Unpack[CommandOptions]
    ) -> Execution:
        """Record a fact in the log of one that has not ended, and change nothing of it. `name` is as `step.started`.

        Raises:
            ExecutionNotFoundError, InvalidExecutionStateError, VersionConflict: as above.
            InvalidDocumentError, DocumentTooLargeError: of the name or the data.
        """
        return await self._command(execution_id, checked_fact(name, data, self.settings.inline_limit_bytes), options)

    async def submit_result(
        self,
        execution_id: UUID,
        result: Mapping[str, Any] | None = None,
        *,
        error: JsonObject | None = None,
        partial: bool = False,
        **options: Unpack[CommandOptions],
    ) -> Execution:
        """End a running one from outside: with a result, with part of one, or with an error (`type` and `message`).

        A worker that runs it loses its lease.

        Raises:
            ExecutionNotFoundError, InvalidExecutionStateError, VersionConflict: as above.
            InvalidDocumentError, DocumentTooLargeError: of the result.
        """
        limit = self.settings.inline_limit_bytes
        document = to_document(dict(result) if isinstance(result, Mapping) else result, "the result", limit)
        problem = to_document(error, "the error", limit) if error else None
        command = Finish(outcome=reported(document, problem, partial=partial), by_holder=False)
        return await self._command(execution_id, command, options)

    async def delete_execution(self, execution_id: UUID, *, expected_version: int | None = None) -> None:
        """Delete a terminal one and its history.

        Raises:
            ExecutionNotFoundError, InvalidExecutionStateError: there is none, or it has not ended.
            VersionConflict: it is not at `expected_version`, or was retried meanwhile.
            EventsNotPublishedError: a relay has not published all of its events; it will have soon.
        """
        await self.state_manager.delete(execution_id, self._tenant_id, expected_version=expected_version)

    async def __aenter__(self) -> ExecutionService:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _new_watcher(self) -> LogWatcher:
        watcher = LogWatcher(self.repository, poll_interval=self.settings.poll_interval_seconds)
        self.state_manager.listen(watcher.noted)
        return watcher

    def _new_log_stream(self, db: Database) -> LogStream:
        poll_interval, replay_limit = self.settings.poll_interval_seconds, self.settings.stream_replay_limit
        return LogStream(EventLog(db), db.wakeups, poll_interval=poll_interval, replay_limit=replay_limit)

    def _new_background_tasks(self) -> BackgroundTaskManager:
        """What runs the tasks of one worker: it is closed for good when that worker stops."""
        limits = self.settings
        return BackgroundTaskManager(max_tasks=limits.worker_concurrency, memory_limit_mib=limits.memory_limit_mib)

    def _to_command(self, submission: Submission, command_id: UUID | None) -> Create:
        """The command that records a submission, checked against what this service takes."""
        self.admission.admit(submission.kind)
        self._kinds.check(submission.kind, submission.parameters)
        return submission.to_command(
            self._tenant_id,
            new_id=command_id,
            document_limit=self.settings.inline_limit_bytes,
            schedule_to_start=self.settings.default_schedule_to_start_seconds,
            start_to_close=self.settings.default_start_to_close_seconds,
        )

    async def _command(self, execution_id: UUID, command: Command, options: CommandOptions) -> Execution:
        return await self.state_manager.apply(
            execution_id, command, actor=self._actor, tenant_id=self._tenant_id, **options
        )
