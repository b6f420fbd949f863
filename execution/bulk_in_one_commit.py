"""Requests on many executions under a key: everything that is done, and the answer that is kept, in one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from execution.bulk_answers import Answer, AnswerToBatch, AnswerToCancellation, BulkCancellation
from execution.domain.commands import Cancel, Create
from execution.domain.execution import Execution
from execution.domain.machine import begin, carry_out
from execution.domain.state import ExecutionState
from execution.errors import DuplicateExecutionError, ExecutionNotFoundError, ExecutionServiceError
from execution.keyed_answer import KeyedAnswer
from execution.repository.append import Append
from execution.repository.one_commit import OneCommit, OneCommits, decided
from execution.repository.repository import ExecutionRepository
from execution.state_manager import ExecutionStateManager


class BulkInOneCommit:
    """Decides and writes what is asked together."""

    def __init__(self, repository: ExecutionRepository, state_manager: ExecutionStateManager) -> None:
        self._repository = repository
        self._state_manager = state_manager
        self._commits = OneCommits(repository.db)

    async def create(
        self,
        items: Sequence[Create | Answer],
        command_ids: Sequence[UUID | None],
        answer_to: AnswerToBatch,
        *,
        now: datetime,
        actor: str | None,
    ) -> list[Answer]:
        """Record those that are commands, as far as there is room; the others are answered already."""
        lanes, appends = self._repository.db.lanes, dict[UUID, Append]()
        room, taken = lanes.room, list[Create | Answer]()
        for item, command_id in zip(items, command_ids, strict=True):
            if isinstance(item, Create) and item.id not in appends:  # of one id twice the first is taken
                if len(appends) >= room:
                    taken.append(lanes.overload())
                    continue
                after, events = begin(item, now, actor)
                appends[item.id] = decided(None, after, events, command_id)
            taken.append(item)

        async def work(commit: OneCommit) -> tuple[tuple[list[Answer], set[UUID]], KeyedAnswer | None]:
            written = await commit.create(list(appends.values()))
            left = {one: appends[one].execution for one in written}
            answers = [
                await self._created(item, left, command_id) if isinstance(item, Create) else item
                for item, command_id in zip(taken, command_ids, strict=True)
            ]
            return (answers, written), answer_to(answers)

        answers, written = await self._commits.carry_out(work)
        for one in written:
            await self._set_off(appends[one])
        return answers

    async def cancel(
        self,
        found: Sequence[UUID],
        command: Cancel,
        answer_to: AnswerToCancellation,
        *,
        more: bool,
        actor: str | None,
        command_id: UUID | None,
    ) -> BulkCancellation:
        """Cancel those that still can be."""
        before = await self._cancelled_before(found, command_id)

        async def work(commit: OneCommit) -> tuple[tuple[BulkCancellation, list[Append]], KeyedAnswer | None]:
            appends: list[Append] = []
            answers = dict(before)
            there = {one.id: one for one in await commit.lock([one for one in found if one not in before])}
            for one in found:
                if one in before:
                    continue
                execution = there.get(one)  # unless it was deleted since it was found
                decision = self._decide(execution, command, actor) if execution else ExecutionNotFoundError(one)
                if isinstance(decision, Append):
                    decision.command_id = command_id
                    appends.append(decision)
                    decision = decision.execution
                answers[one] = decision
            await commit.change(appends)
            outcome = BulkCancellation(answers=[(one, answers[one]) for one in found], more=more)
            return (outcome, appends), answer_to(outcome)

        outcome, appends = await self._commits.carry_out(work)
        for one in appends:
            await self._set_off(one)
        return outcome

    def _decide(self, execution: Execution, command: Cancel, actor: str | None) -> Append | Answer:
        """What is to be written; or the answer, where nothing is."""
        try:
            after, events = carry_out(execution, [command], self._repository.db.clock.now(), actor)
        except ExecutionServiceError as error:
            return error
        return decided(execution, after, events) if events else after

    async def _created(self, command: Create, written: dict[UUID, Execution], command_id: UUID | None) -> Answer:
        """The new execution, for the first that asks for it; otherwise what its id stands for already."""
        if (execution := written.pop(command.id, None)) is not None:
            return execution
        try:
            return await self._state_manager.created_before(command, command_id)
        except DuplicateExecutionError as error:
            return error

    async def _cancelled_before(self, execution_ids: Sequence[UUID], command_id: UUID | None) -> Mapping[UUID, Answer]:
        """What the same command has led to, where it has been carried out on some in commits of their own."""
        if command_id is None:
            return {}
        versions = await self._repository.last_versions_of_command(execution_ids, command_id)
        found = {one: await self._repository.get_at(one, version) for one, version in versions.items()}
        return {one: execution for one, execution in found.items() if execution is not None}

    async def _set_off(self, append: Append) -> None:
        previous = ExecutionState.CREATED if append.before is None else append.before.state
        await self._state_manager.handle_state_side_effects(append.execution, previous, append.execution.state)
