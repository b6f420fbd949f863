"""`BulkCommands`: many submissions, or many cancellations, in one call; each is answered for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias, TypeVar
from uuid import UUID

from execution.bulk_answers import Answer, AnswerToBatch, AnswerToCancellation, BulkCancellation
from execution.bulk_in_one_commit import BulkInOneCommit
from execution.domain.commands import Cancel, Create
from execution.domain.events import Event
from execution.domain.evolve import fold
from execution.domain.execution import Execution
from execution.errors import ExecutionNotFoundError, ExecutionServiceError, InvalidDocumentError
from execution.ids import derived_id
from execution.kinds import KnownKinds
from execution.repository.repository import ExecutionRepository
from execution.state_manager import ExecutionStateManager
from execution.submission import Submission

T = TypeVar("T")

MAX_SUBMISSIONS = 1000
"""Submissions in one call at most."""

SUBMITTED_IN_A_ROW = 50
"""Submissions prepared before this process's other tasks have a turn; each takes some 20 µs."""

CANCELLED_AT_ONCE = 200
"""Cancellations under way at a time: one read and, while nobody else writes, one commit for all of them."""

Item: TypeAlias = Submission | Mapping[str, Any] | ExecutionServiceError
"""One of many submissions, or its fields; or, in its place, what is wrong with it already, which is then its answer."""


class ToCommand(Protocol):
    """How a submission becomes the command that records it, or is refused."""

    def __call__(self, submission: Submission, command_id: UUID | None, /) -> Create: ...


class BulkCommands:
    """The commands on many executions. They take the append lanes as single ones do, and share their commits; with an
    `answer` that is kept under a key, all of it is one commit of its own."""

    def __init__(
        self, repository: ExecutionRepository, state_manager: ExecutionStateManager, kinds: KnownKinds
    ) -> None:
        self._repository = repository
        self._state_manager = state_manager
        self._kinds = kinds
        self._in_one_commit = BulkInOneCommit(repository, state_manager)

    async def create(
        self,
        submissions: Sequence[Item],
        to_command: ToCommand,
        *,
        actor: str | None = None,
        command_id: UUID | None = None,
        answer: AnswerToBatch | None = None,
    ) -> list[Answer]:
        """Record each submission; the answers are in their order. One that fails does not touch the others.

        Under a `command_id` every submission has an id of its own that follows from it and the position, so the same
        call again records what is missing and answers the rest with the first outcome.

        Raises:
            InvalidDocumentError: more than `MAX_SUBMISSIONS`.
        """
        if len(submissions) > MAX_SUBMISSIONS:
            problem = f"it has {len(submissions):,} submissions, and at most {MAX_SUBMISSIONS:,} are taken at once"
            raise InvalidDocumentError("The batch", problem)
        ids = [derived_id(command_id, index) if command_id else None for index in range(len(submissions))]
        # What is there already must not take the place of what is missing when there is not room for all.
        recorded = await self._recorded([one for one in ids if one])
        now = self._repository.db.clock.now()  # the same for all of them, which makes them cheaper to write
        if answer is not None:
            items = await self._read_all(submissions, ids, to_command, recorded)
            return await self._in_one_commit.create(items, ids, answer, now=now, actor=actor)
        begun: list[Coroutine[Any, Any, Execution]] = []
        try:
            for index, submission in enumerate(submissions):
                one = await self._begin(submission, to_command, recorded, now=now, actor=actor, command_id=ids[index])
                begun.append(one)
                if index % SUBMITTED_IN_A_ROW == SUBMITTED_IN_A_ROW - 1:
                    await asyncio.sleep(0)
            return [await _answer(one) for one in begun]
        finally:
            for one in begun:
                one.close()  # of a caller that was cancelled; what is queued is on its way

    async def _read_all(
        self,
        submissions: Sequence[Item],
        ids: Sequence[UUID | None],
        to_command: ToCommand,
        recorded: Mapping[UUID, Sequence[Event]],
    ) -> list[Create | Answer]:
        items: list[Create | Answer] = []
        for submission, command_id in zip(submissions, ids, strict=True):
            items.append(await self._read(submission, command_id, to_command, recorded))
            if len(items) % SUBMITTED_IN_A_ROW == 0:
                await asyncio.sleep(0)
        return items

    async def _begin(
        self,
        submission: Item,
        to_command: ToCommand,
        recorded: Mapping[UUID, Sequence[Event]],
        *,
        now: datetime,
        actor: str | None,
        command_id: UUID | None,
    ) -> Coroutine[Any, Any, Execution]:
        """Queue one to be written; what is returned ends when it is, or with why it is not."""
        read = await self._read(submission, command_id, to_command, recorded)
        if not isinstance(read, Create):
            return _settled(read)
        try:
            written = self._state_manager.begin_creation(read, now=now, actor=actor, command_id=command_id)
        except ExecutionServiceError as error:
            return _settled(error)
        return self._state_manager.created(read, written, command_id)

    async def _read(
        self,
        submission: Item,
        command_id: UUID | None,
        to_command: ToCommand,
        recorded: Mapping[UUID, Sequence[Event]],
    ) -> Create | Answer:
        """The command that records it; or its answer, where that is known without one."""
        try:
            submission = _checked(submission)
            if command_id and command_id in recorded and submission.id is None:
                return fold(recorded[command_id][: 2 if submission.start else 1])
            if not self._kinds.knows(submission.kind):
                await self._kinds.ask(submission.kind)
            return to_command(submission, command_id)
        except ExecutionServiceError as error:
            return error

    async def _recorded(self, ids: Sequence[UUID]) -> dict[UUID, list[Event]]:
        """The events that creations under these ids began with: one or two each."""
        recorded: dict[UUID, list[Event]] = {}
        for item in await self._repository.get_histories(dict.fromkeys(ids, 0), limit_each=2) if ids else ():
            recorded.setdefault(item.execution_id, []).append(item.to_event())
        return recorded

    async def cancel(
        self,
        tenant_id: str,
        filters: Mapping[str, Any],
        command: Cancel,
        *,
        limit: int,
        actor: str | None = None,
        command_id: UUID | None = None,
        answer: AnswerToCancellation | None = None,
    ) -> BulkCancellation:
        """Cancel what matches the filters and neither has ended nor is being cancelled, newest first.

        An execution that was cancelled under the same `command_id` and retried since is not cancelled again.

        Raises:
            InvalidFilterError: no filter, an unknown one, or a limit out of range.
        """
        found = await self._repository.list_cancellable(filters, limit=limit, tenant_id=tenant_id)
        ids, more = found[:limit], len(found) > limit
        if answer is not None:
            return await self._in_one_commit.cancel(ids, command, answer, more=more, actor=actor, command_id=command_id)
        answers: list[tuple[UUID, Answer]] = []
        for first in range(0, len(ids), CANCELLED_AT_ONCE):
            some = ids[first : first + CANCELLED_AT_ONCE]
            read = {execution.id: execution for execution in await self._repository.get_many(some)}
            outcomes = (self._cancel(one, read.get(one), command, actor, command_id) for one in some)
            answers += zip(some, await asyncio.gather(*map(_answer, outcomes)), strict=True)
        return BulkCancellation(answers=answers, more=more)

    async def _cancel(
        self,
        execution_id: UUID,
        execution: Execution | None,
        command: Cancel,
        actor: str | None,
        command_id: UUID | None,
    ) -> Execution:
        if execution is None:
            raise ExecutionNotFoundError(execution_id)  # deleted since it was found
        return await self._state_manager.apply_to(execution, command, actor=actor, command_id=command_id)


def _checked(item: Item) -> Submission:
    if isinstance(item, ExecutionServiceError):
        raise item
    return item if isinstance(item, Submission) else Submission.checked(**item)


async def _settled(answer: Answer) -> Execution:
    if isinstance(answer, ExecutionServiceError):
        raise answer
    return answer


async def _answer(work: Awaitable[Execution]) -> Answer:
    try:
        return await work
    except ExecutionServiceError as error:
        return error
