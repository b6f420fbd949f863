"""`ExecutionStateManager`: carries out commands on executions, and sets off what follows from a change of state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from execution.domain.commands import ChangeState, Command, Create, Record
from execution.domain.decide import allowed_commands
from execution.domain.execution import Execution
from execution.domain.machine import begin, carry_out
from execution.domain.state import ExecutionState, ExecutionStateTransitionValidator, States
from execution.eager_start import EagerStart
from execution.errors import (
    DuplicateExecutionError,
    ExecutionNotFoundError,
    InvalidExecutionStateError,
    VersionConflict,
)
from execution.event_emitter import ExecutionEventEmitter
from execution.keyed_answer import AnswerTo
from execution.repository.append import Append
from execution.repository.repository import ExecutionRepository
from execution.repository.wakeups import Topic

CONFLICT_RETRIES = 20
"""How often a command without an expected version is decided anew when another change gets in first."""


class ExecutionStateManager:
    """The only way from a command to the log, for everybody but the holder of a lease.

    A command may carry an id. One whose id is in its execution's log already is not carried out again: the answer is
    its first outcome, the execution as it was after that command's last event. Where a command has an effect, the
    `answer` to whoever asked for it is kept under an idempotency key in the effect's transaction.
    """

    def __init__(
        self,
        repository: ExecutionRepository,
        event_emitter: ExecutionEventEmitter,
        *,
        validator: ExecutionStateTransitionValidator | None = None,
    ) -> None:
        self.repository = repository
        self.event_emitter = event_emitter
        self._validator = validator or ExecutionStateTransitionValidator()
        self._wakeups = repository.db.wakeups
        self._clock = repository.db.clock
        self._listeners: list[Callable[[Execution], None]] = []
        self._offers: list[Callable[[Create], EagerStart | None]] = []

    def validate_transition(self, current_state: ExecutionState, target_state: ExecutionState) -> bool:
        """May `target_state` follow `current_state`?"""
        return self._validator.is_valid(current_state, target_state)

    async def change_state(
        self,
        execution_id: UUID,
        target_state: ExecutionState,
        reason: str | None = None,
        *,
        expected_version: int | None = None,
        actor: str | None = None,
        command_id: UUID | None = None,
    ) -> Execution:
        """Bring an execution into a state, by whichever command leads there; errors as `apply`."""
        command = ChangeState(target=target_state, reason=reason)
        return await self.apply(
            execution_id, command, expected_version=expected_version, actor=actor, command_id=command_id
        )

    def create(
        self,
        command: Create,
        *,
        actor: str | None = None,
        command_id: UUID | None = None,
        answer: AnswerTo | None = None,
    ) -> Coroutine[Any, Any, Execution]:
        """Record a new execution.

        Raises:
            DuplicateExecutionError: its id exists, and it was not this command that created it.
            DatabaseError: nothing was recorded (or, for OutcomeUnknownError, nobody knows).
        """
        for offer in self._offers:
            if (start := offer(command)) is not None:
                written = self.begin_creation(command, actor=actor, command_id=command_id, answer=answer, start=start)
                return self._created_started(command, written, actor, command_id, answer)
        written = self.begin_creation(command, actor=actor, command_id=command_id, answer=answer)
        return self.created(command, written, command_id)

    def begin_creation(
        self,
        command: Create,
        *,
        now: datetime | None = None,
        actor: str | None = None,
        command_id: UUID | None = None,
        answer: AnswerTo | None = None,
        start: EagerStart | None = None,
    ) -> Awaitable[Execution]:
        """The first half of `create`, for many at a time: what is queued to be written when this returns."""
        try:
            after, events = begin(command, now or self._clock.now(), actor, claim=start.claim if start else None)
            return self.repository.append(
                None, events, after, command_id=command_id, claimant=start, answer=answer, audience=self
            )
        except BaseException:
            if start is not None:
                start.not_written()
            raise

    async def _created_started(
        self,
        command: Create,
        written: Awaitable[Execution],
        actor: str | None,
        command_id: UUID | None,
        answer: AnswerTo | None,
    ) -> Execution:
        try:
            return await written
        except DuplicateExecutionError:
            # It exists; or the worker was declared dead before the statement ran, then it waits for another one.
            written = self.begin_creation(command, actor=actor, command_id=command_id, answer=answer)
            return await self.created(command, written, command_id)

    async def created(self, command: Create, written: Awaitable[Execution], command_id: UUID | None) -> Execution:
        """The second half of `create`, with its errors."""
        try:
            execution = await written
        except DuplicateExecutionError:
            return await self.created_before(command, command_id)
        if self._wakeups.is_about_to_notify:
            await asyncio.sleep(0)  # a worker elsewhere hears of it before its submitter goes on
        return execution

    async def created_before(self, command: Create, command_id: UUID | None) -> Execution:
        """The execution as this command has created it before.

        Raises:
            DuplicateExecutionError: another one has created it.
        """
        first = await self._first_outcome(command.id, command_id, from_version=1)
        if first is None or first.tenant_id != command.tenant_id:
            raise DuplicateExecutionError(command.id)
        return first

    async def apply(
        self,
        execution_id: UUID,
        command: Command,
        *,
        expected_version: int | None = None,
        actor: str | None = None,
        tenant_id: str | None = None,
        command_id: UUID | None = None,
        facts: Sequence[Record] = (),
        answer: AnswerTo | None = None,
    ) -> Execution:
        """Carry out a command: read, decide, append. Returns the execution after it (unchanged if it was so already).

        `facts` are recorded before it, in the same append: all of it is written, or nothing.
        Without `expected_version` a change that gets in first makes the command be decided anew on what is there now.
        A repetition by `command_id` is answered with the first outcome, whatever version is expected.

        Raises:
            ExecutionNotFoundError: no such execution.
            InvalidExecutionStateError: the state machine refuses.
            VersionConflict: it is not at `expected_version`.
            DatabaseError: nothing was applied (or, for OutcomeUnknownError, nobody knows).
        """
        before = await self.get(execution_id, tenant_id)
        return await self.apply_to(
            before,
            command,
            expected_version=expected_version,
            actor=actor,
            command_id=command_id,
            facts=facts,
            answer=answer,
        )

    async def apply_to(
        self,
        before: Execution,
        command: Command,
        *,
        expected_version: int | None = None,
        actor: str | None = None,
        command_id: UUID | None = None,
        facts: Sequence[Record] = (),
        answer: AnswerTo | None = None,
    ) -> Execution:
        """Carry out a command on an execution that the caller has just read; otherwise as `apply`."""
        execution_id = before.id
        for _ in range(CONFLICT_RETRIES):
            # After the read: what another sending of this command has written by now is found here, and what it writes
            # from here on is a conflict.
            if (first := await self._first_outcome(execution_id, command_id)) is not None:
                return first
            if expected_version is not None and before.version != expected_version:
                raise VersionConflict(execution_id, expected_version)
            after, events = carry_out(before, [*facts, command], self._clock.now(), actor)
            if not events:
                return before
            try:
                return await self.repository.append(
                    before, events, after, command_id=command_id, answer=answer, audience=self
                )
            except VersionConflict:
                before = await self.get(execution_id, before.tenant_id)
        raise VersionConflict(execution_id, before.version)

    async def delete(
        self, execution_id: UUID, tenant_id: str | None = None, *, expected_version: int | None = None
    ) -> None:
        """Delete an ended execution and its history.

        Raises:
            ExecutionNotFoundError: no such execution.
            InvalidExecutionStateError: it has not ended.
            VersionConflict: it is not at `expected_version`, or was retried meanwhile.
            EventsNotPublishedError: a relay has not published all of its events.
        """
        execution = await self.get(execution_id, tenant_id)
        if expected_version not in {None, execution.version}:
            raise VersionConflict(execution_id, expected_version or 0)
        if not execution.is_terminal:
            raise InvalidExecutionStateError(
                execution_id,
                "delete",
                state=execution.state,
                version=execution.version,
                allowed=allowed_commands(execution),
                why="only an ended execution can be deleted",
            )
        if not await self.repository.delete_execution(execution_id, execution.version):
            raise VersionConflict(execution_id, execution.version)

    async def get(self, execution_id: UUID, tenant_id: str | None = None) -> Execution:
        """The execution as it is now. With `tenant_id`, another tenant's does not exist.

        Raises:
            ExecutionNotFoundError: no such execution.
        """
        execution = await self.repository.get_by_id(execution_id)
        if execution is None or tenant_id not in {None, execution.tenant_id}:
            raise ExecutionNotFoundError(execution_id)
        return execution

    async def _first_outcome(
        self, execution_id: UUID, command_id: UUID | None, *, from_version: int | None = None
    ) -> Execution | None:
        """The execution after a command of that id; None if its log has none (or none that began at `from_version`)."""
        if command_id is None:
            return None
        versions = await self.repository.versions_of_command(execution_id, command_id)
        if not versions or from_version not in {None, versions[0]}:
            return None
        return await self.repository.get_at(execution_id, versions[-1])

    async def handle_state_side_effects(
        self, execution: Execution, previous_state: ExecutionState, new_state: ExecutionState
    ) -> None:
        """Set off what follows from a committed change: wake those who wait for it.

        All of it is a hint. Whoever misses one finds the change at its next poll, so nothing here can fail the command.
        """
        self._wakeups.signal(Topic.LOG)
        for topic in _topics(execution, previous_state, new_state):
            self._wakeups.signal(topic, _claimable(execution))
        self.changed(execution)

    def written(self, appends: Sequence[Append]) -> None:
        """The same for a batch, as soon as it is committed: whoever asked for a change may be gone by now. Of all but
        work, which is said one by one, the batch is one thing to look at."""
        signal = self._wakeups.signal
        signal(Topic.LOG, times=len(appends))
        due: set[Topic] = set()
        for append in appends:
            after, before = append.execution, append.before
            if append.lease_epoch is not None:
                topics = _topics_of_holder(after)
            else:
                topics = _topics(after, before.state if before else States.CREATED, after.state)
            for topic in topics:
                if topic is Topic.WORK:
                    signal(topic, _claimable(after))
                else:
                    due.add(topic)
        for topic in due:
            signal(topic)
        for listener in self._listeners:
            for append in appends:
                listener(append.execution)

    def listen(self, listener: Callable[[Execution], None]) -> Callable[[], None]:
        """Call `listener` with every execution this process has changed, once the change is committed.

        Returns what ends it.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def take_offers(self, offer: Callable[[Create], EagerStart | None]) -> Callable[[], None]:
        """Ask `offer` with every single creation whether a worker of this process starts it at once.

        Returns what ends it.
        """
        self._offers.append(offer)
        return lambda: self._offers.remove(offer)

    def changed(self, execution: Execution) -> None:
        """Tell the listeners of a committed change."""
        for listener in self._listeners:
            listener(execution)


def _topics(execution: Execution, previous: ExecutionState, new: ExecutionState) -> list[Topic]:
    """What there is to look at, besides the log, after a command of somebody who does not hold the execution."""
    topics = [Topic.DEADLINE] if execution.deadline is not None else []
    if new is States.PENDING and previous is not States.PENDING:
        topics.append(Topic.WORK)
    elif previous is States.CREATED:
        pass  # nobody has been waiting for it yet
    elif execution.is_held or (previous in _MAY_BE_HELD and new is not previous):
        topics.append(Topic.CONTROL)
    if execution.is_terminal:
        topics.append(Topic.ENDED)
    return topics


def _topics_of_holder(execution: Execution) -> Sequence[Topic]:
    """The same after a write of the worker that holds it, or held it until then."""
    if execution.is_terminal:
        return _ENDED
    return () if execution.is_held else _WORK


def _claimable(execution: Execution) -> UUID | None:
    """Which execution can be claimed now, if it can."""
    return execution.id if execution.run_at <= execution.updated_at else None


_ENDED, _WORK = (Topic.ENDED,), (Topic.WORK,)
_MAY_BE_HELD = frozenset({States.RUNNING, States.PAUSED, States.CANCELLING})
