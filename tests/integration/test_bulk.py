"""Many executions in one call: each is answered for itself, in order, and they share their commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import asyncpg
import pytest

from execution.bulk_answers import BulkCancellation
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.errors import (
    DuplicateExecutionError,
    ExecutionNotFoundError,
    ExecutionNotYetCreatedError,
    ExecutionServiceError,
    InvalidDocumentError,
    InvalidExecutionStateError,
    InvalidFilterError,
    OverloadedError,
    UnknownKindError,
)
from execution.ids import derived_id, new_id
from execution.service import ExecutionService
from execution.submission import Submission
from execution.wiring import open_service
from tests.support.checker import check_database
from tests.support.service import ended, running_worker, short_settings

S = ExecutionState
SUBMISSION = {"kind": "noop"}
MANY = 1000


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[ExecutionService]:
    """Without a worker: what is submitted stays as it is."""
    async with open_service(short_settings(database_url)) as service:
        yield service
    await check_database(database_url)


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def made(answers: list[Execution | ExecutionServiceError]) -> list[Execution]:
    """The executions of a batch that was taken whole."""
    executions = [one for one in answers if isinstance(one, Execution)]
    assert executions == answers
    return executions


async def total(service: ExecutionService) -> int:
    return (await service.list_executions())[1]


class TestSubmitting:
    async def test_a_thousand_land_in_a_handful_of_commits(
        self, service: ExecutionService, sql: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        parameters = [{"number": number} for number in range(MANY)]
        answers = await service.create_executions([SUBMISSION | {"parameters": one} for one in parameters])
        assert [one.parameters for one in made(answers)] == parameters
        assert await total(service) == MANY
        commits = await sql.fetchval("SELECT count(DISTINCT xid) FROM execution_events")
        assert commits <= 12

    async def test_a_bad_one_does_not_touch_the_others(self, service: ExecutionService) -> None:
        first = await service.create_execution("noop")
        answers = await service.create_executions(
            [
                SUBMISSION,
                {"kind": "nobody.runs.this"},
                SUBMISSION | {"id": first.id},
                SUBMISSION | {"colour": "red", "cls": 1},
                SUBMISSION | {"parameters": {"text": "\x00"}},
                Submission(kind="noop", agent_id="a", start=False),
            ]
        )
        kinds = [type(one) for one in answers]
        refused = [UnknownKindError, DuplicateExecutionError, InvalidDocumentError, InvalidDocumentError]
        assert kinds == [Execution, *refused, Execution]
        last = answers[-1]
        assert isinstance(last, Execution)
        assert (last.agent_id, last.state) == ("a", S.CREATED)
        assert await total(service) == 3

    async def test_of_one_id_twice_the_first_is_taken(self, service: ExecutionService) -> None:
        submission = SUBMISSION | {"id": new_id()}
        first, second = await service.create_executions([submission | {"priority": 1}, submission | {"priority": 2}])
        assert isinstance(first, Execution)
        assert isinstance(second, DuplicateExecutionError)
        assert (await service.get_execution(first.id)).priority == 1

    async def test_nothing_and_too_many(self, service: ExecutionService) -> None:
        assert await service.create_executions([]) == []
        with pytest.raises(InvalidDocumentError, match=r"1,001 submissions, and at most 1,000"):
            await service.create_executions([SUBMISSION] * (MANY + 1))
        assert await total(service) == 0

    async def test_an_overload_refuses_the_ones_it_cannot_take(self, database_url: str) -> None:
        settings = short_settings(database_url, submission_queue_limit=10, append_batch_limit=5)
        async with open_service(settings) as service:
            answers = await service.create_executions([SUBMISSION] * MANY)
            taken = [one for one in answers if isinstance(one, Execution)]
            refused = [one for one in answers if isinstance(one, OverloadedError)]
            assert len(taken) + len(refused) == MANY
            assert 10 <= len(taken) < MANY
            assert await total(service) == len(taken)
        await check_database(database_url)


class TestSubmittingAgain:
    async def test_under_the_same_command_id_none_is_made_twice(self, service: ExecutionService) -> None:
        command_id = new_id()
        first = await service.create_executions([SUBMISSION] * 20, command_id=command_id)
        assert [one.id for one in made(first)] == [derived_id(command_id, index) for index in range(20)]
        await service.cancel_execution(made(first)[3].id)
        assert await service.create_executions([SUBMISSION] * 20, command_id=command_id) == first
        assert await total(service) == 20

    async def test_what_was_missing_is_recorded(self, service: ExecutionService, chance: Random) -> None:
        """As after a crash in the middle: some are in the log, some are not."""
        command_id, count = new_id(), 100
        submissions = [SUBMISSION | {"priority": index} for index in range(count)]
        recorded = chance.sample(range(count), 40)
        for index in recorded:
            item_id = derived_id(command_id, index)
            await service.create_execution("noop", priority=index, command_id=item_id)
        answers = await service.create_executions(submissions, command_id=command_id)
        assert [one.priority for one in made(answers)] == list(range(count))
        assert await total(service) == count

    async def test_twins_at_the_same_time(self, service: ExecutionService) -> None:
        command_id = new_id()
        twins = [service.create_executions([SUBMISSION] * 200, command_id=command_id) for _ in range(4)]
        first, *others = await asyncio.gather(*twins)
        assert made(first)
        assert all(one == first for one in others)
        assert await total(service) == 200


async def cancelled(service: ExecutionService, **filters: Any) -> set[Any]:
    """The ids that a bulk cancel answered with their end."""
    outcome = await service.cancel_executions(filters)
    assert not outcome.more
    assert all(isinstance(one, Execution) for _, one in outcome.answers)
    return {execution_id for execution_id, _ in outcome.answers}


def states(outcome: BulkCancellation) -> list[str]:
    return [one.state if isinstance(one, Execution) else one.code for _, one in outcome.answers]


class TestCancelling:
    async def test_what_matches_is_cancelled_and_nothing_else(self, service: ExecutionService) -> None:
        mine = made(await service.create_executions([SUBMISSION | {"agent_id": "a"}] * 250))
        other = await service.create_execution("noop", agent_id="b")
        outcome = await service.cancel_executions({"agent_id": "a"}, reason="enough")
        assert [one for one, _ in outcome.answers] == sorted((one.id for one in mine), reverse=True)
        assert states(outcome) == [S.CANCELLED] * 250
        assert not outcome.more
        assert (await service.get_execution(other.id)).state is S.PENDING
        (last,) = await service.get_state_history(mine[0].id, 1)
        assert (last.new_state, last.reason) == (S.CANCELLED, "enough")

    async def test_a_limit_says_whether_more_is_left(self, service: ExecutionService) -> None:
        await service.create_executions([SUBMISSION] * 7)
        seen = []
        for expected, more in ((3, True), (3, True), (1, False), (0, False)):
            outcome = await service.cancel_executions({"kind": "noop"}, limit=3)
            assert (len(outcome.answers), outcome.more) == (expected, more)
            seen += [one for one, _ in outcome.answers]
        assert len(set(seen)) == 7

    async def test_the_limit_itself_is_not_more(self, service: ExecutionService) -> None:
        await service.create_executions([SUBMISSION] * 3)
        assert not (await service.cancel_executions({"kind": "noop"}, limit=3)).more

    async def test_running_ones_are_asked_to_stop_and_not_asked_again(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop", parameters={"kept": True})
        await service.state_manager.change_state(execution.id, S.RUNNING)
        await service.report_progress(execution.id, 10, "begun", {"kept": True})
        assert states(await service.cancel_executions({"kind": "noop"})) == [S.CANCELLING]
        assert states(await service.cancel_executions({"kind": "noop"})) == []
        assert (await service.get_execution(execution.id)).progress.context == {"kept": True}

    async def test_what_changes_meanwhile_is_cancelled_as_it_is_then(self, service: ExecutionService) -> None:
        """Against commands on the same executions: whoever is first, each is answered truly."""
        executions = made(await service.create_executions([SUBMISSION | {"start": False}] * 100))
        outcome, *_ = await asyncio.gather(
            service.cancel_executions({"kind": "noop"}),
            *(service.start_execution(one.id) for one in executions),
            return_exceptions=True,
        )
        assert isinstance(outcome, BulkCancellation)
        assert set(states(outcome)) == {S.CANCELLED}
        for execution_id, one in outcome.answers:
            assert await service.get_execution(execution_id) == one

    async def test_what_ends_meanwhile_is_answered_with_the_refusal(
        self, service: ExecutionService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second, third = made(await service.create_executions([SUBMISSION] * 3))
        find = service.repository.list_cancellable

        async def find_then_change(*args: Any, **options: Any) -> Any:
            found = await find(*args, **options)
            await service.cancel_execution(first.id)
            await service.cancel_execution(second.id)
            await service.delete_execution(second.id)
            return found

        monkeypatch.setattr(service.repository, "list_cancellable", find_then_change)
        answers = dict((await service.cancel_executions({"kind": "noop"})).answers)
        assert isinstance(answers[first.id], InvalidExecutionStateError)
        assert isinstance(answers[second.id], ExecutionNotFoundError)
        assert isinstance(answers[third.id], Execution)

    async def test_under_the_same_command_id_what_was_retried_since_is_not_cancelled_again(
        self, service: ExecutionService
    ) -> None:
        execution, command_id = await service.create_execution("noop"), new_id()
        first = await service.cancel_executions({"kind": "noop"}, command_id=command_id)
        retried = await service.retry_execution(execution.id)
        assert await service.cancel_executions({"kind": "noop"}, command_id=command_id) == first
        assert await service.get_execution(execution.id) == retried

    async def test_with_a_worker_taking_them(self, database_url: str) -> None:
        async with open_service(short_settings(database_url)) as service, running_worker(service):
            executions = made(await service.create_executions([SUBMISSION] * 300))
            outcome = await service.cancel_executions({"kind": "noop"})
            ends = await asyncio.gather(*(ended(service, one.id) for one in executions))
            assert {one.state for one in ends} <= {S.COMPLETED, S.CANCELLED}
            by_us = {one for one, answer in outcome.answers if isinstance(answer, Execution) and answer.is_terminal}
            assert by_us <= {one.id for one in ends if one.state is S.CANCELLED}
        await check_database(database_url)

    @pytest.mark.parametrize("filters", [{}, {"kind": None}])
    async def test_without_a_filter_nothing_is_cancelled(
        self, service: ExecutionService, filters: dict[str, Any]
    ) -> None:
        execution = await service.create_execution("noop")
        with pytest.raises(InvalidFilterError, match="at least one of state, kind"):
            await service.cancel_executions(filters)
        assert await service.get_execution(execution.id) == execution

    @pytest.mark.parametrize(
        ("filters", "limit"), [({"colour": "red"}, 1), ({"kind": "noop"}, 0), ({"kind": "noop"}, 1001)]
    )
    async def test_refused(self, service: ExecutionService, filters: dict[str, Any], limit: int) -> None:
        with pytest.raises(InvalidFilterError):
            await service.cancel_executions(filters, limit=limit)


class TestTheFiltersOfTheList:
    """The property: a bulk cancel cancels what a list with the same filters shows, unless it has ended already."""

    async def test_cancel_what_is_listed(self, service: ExecutionService, chance: Random) -> None:
        for _ in range(6):
            executions = await self._some_of_every_sort(service, chance)
            filters = self._some_filters(executions, chance)
            listed, count = await service.list_executions(filters, {"page_size": 1000})
            assert count == len(listed)
            expected = {one.id for one in listed if not one.is_terminal and one.state is not S.CANCELLING}
            assert await cancelled(service, **filters) == expected, filters
            left, _ = await service.list_executions(filters | {"state": None}, {"page_size": 1000})
            if "state" not in filters:
                assert all(one.is_terminal or one.state is S.CANCELLING for one in left)

    async def _some_of_every_sort(self, service: ExecutionService, chance: Random) -> list[Execution]:
        parents = [new_id(), new_id()]
        submissions = [
            {
                "kind": "noop",
                "agent_id": chance.choice([None, "a", "b"]),
                "task_id": chance.choice([None, "t"]),
                "parent_id": chance.choice([None, *parents]),
                "start": chance.random() < 0.7,
            }
            for _ in range(30)
        ]
        executions = made(await service.create_executions(submissions))
        for one in chance.sample([one for one in executions if one.state is S.PENDING], 9):
            way = chance.choice([[S.RUNNING], [S.RUNNING, S.COMPLETED], [S.PAUSED], [S.RUNNING, S.CANCELLING]])
            for state in way:
                await service.state_manager.change_state(one.id, state)
        return executions

    def _some_filters(self, executions: list[Execution], chance: Random) -> dict[str, Any]:
        moments = sorted(one.created_at for one in chance.sample(executions, 2))
        every = {
            "state": chance.choice(list(S)),
            "kind": "noop",
            "agent_id": chance.choice(["a", "b"]),
            "task_id": "t",
            "parent_id": next((one.parent_id for one in executions if one.parent_id), None),
            "created_after": moments[0],
            "created_before": moments[1] + timedelta(microseconds=1),
        }
        names = chance.sample(sorted(every), chance.choice([1, 2]))
        return {name: every[name] for name in names if every[name] is not None} or {"kind": "noop"}


class TestTimeTravel:
    async def test_at_each_moment_it_is_as_it_was_then(self, service: ExecutionService) -> None:
        seen = [await service.create_execution("noop", start=False)]
        for state in (S.PENDING, S.RUNNING, S.COMPLETED):
            seen.append(await service.state_manager.change_state(seen[0].id, state))
        for one, following in zip(seen, [*seen[1:], None], strict=True):
            assert await service.get_execution_as_of(one.id, one.updated_at) == one
            if following is not None:
                before_the_next = following.updated_at - timedelta(microseconds=1)
                assert await service.get_execution_as_of(one.id, before_the_next) == one
        assert await service.get_execution_as_of(seen[0].id, datetime.fromisoformat("9999-12-31T23:59:59Z")) == seen[-1]

    async def test_before_its_creation_it_did_not_exist(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop")
        just_before = execution.created_at - timedelta(microseconds=1)
        with pytest.raises(ExecutionNotYetCreatedError, match=r"did not exist at .* It was created at"):
            await service.get_execution_as_of(execution.id, just_before)

    async def test_refused(self, service: ExecutionService) -> None:
        execution = await service.create_execution("noop")
        with pytest.raises(ExecutionNotFoundError):
            await service.get_execution_as_of(new_id(), execution.created_at)
        with pytest.raises(InvalidFilterError, match="a time zone"):
            await service.get_execution_as_of(execution.id, execution.created_at.replace(tzinfo=None))
        with pytest.raises(InvalidFilterError, match="the years 1 to 9999"):
            await service.get_execution_as_of(execution.id, datetime.fromisoformat("0001-01-01T00:00:00+10:00"))
