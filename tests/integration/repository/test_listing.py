"""Lists: filters, numbered pages, pages by key, and what is refused."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from execution.domain.commands import Cancel, ChangeState, Finish, ReportProgress
from execution.domain.execution import Execution, Progress
from execution.domain.outcome import Succeeded
from execution.domain.state import ExecutionState
from execution.errors import DatabaseUnavailableError, InvalidFilterError
from execution.ids import new_id
from execution.repository.repository import ExecutionRepository
from tests.support.given import WORKER
from tests.support.service import PATIENCE
from tests.support.stored import AnyConnection, carry_out, submit
from tests.support.waiting import eventually

S = ExecutionState


def ids(executions: list[Execution]) -> list[object]:
    return [one.id for one in executions]


async def submit_some(repository: ExecutionRepository, count: int, **changes: Any) -> list[Execution]:
    """So many executions, newest first."""
    submitted = await asyncio.gather(*(submit(repository, **changes) for _ in range(count)))
    return sorted(submitted, key=lambda one: one.id, reverse=True)


class TestPages:
    async def test_newest_first_with_the_total(self, repository: ExecutionRepository) -> None:
        newest_first = await submit_some(repository, 7)
        assert await repository.list_executions({}, {"page": 1, "page_size": 3}) == await pages(newest_first[:3], 7)
        page, total = await repository.list_executions({}, {"page": 2, "page_size": 3})
        assert (ids(page), total) == (ids(newest_first[3:6]), 7)
        page, total = await repository.list_executions({}, {"page": 3, "page_size": 3})
        assert (ids(page), total) == (ids(newest_first[6:]), 7)
        assert await repository.list_executions({}, {"page": 4, "page_size": 3}) == ([], 7)

    async def test_without_a_page_the_first_fifty(self, repository: ExecutionRepository) -> None:
        newest_first = await submit_some(repository, 60)
        page, total = await repository.list_executions({}, {})
        assert (ids(page), total) == (ids(newest_first[:50]), 60)

    async def test_by_key_every_execution_is_seen_once(self, repository: ExecutionRepository) -> None:
        newest_first = await submit_some(repository, 10)
        seen: list[Execution] = []
        while page := await repository.list_after({}, before_id=seen[-1].id if seen else None, limit=4):
            seen += page
            await submit(repository)  # what is new does not shift the pages
        assert ids(seen) == ids(newest_first)

    async def test_heavy_documents_are_left_out(self, repository: ExecutionRepository) -> None:
        execution = await submit(repository, parameters={"large": True}, agent_id="writer", priority=3)
        execution = await carry_out(repository, execution, ChangeState(target=S.RUNNING))
        execution = await carry_out(
            repository, execution, ReportProgress(percentage=50, message="half", context={"large": True})
        )
        execution = await carry_out(repository, execution, Finish(outcome=Succeeded(result={"large": True})))
        light: dict[str, Any] = {
            "parameters": {},
            "result": None,
            "progress": Progress(percentage=50.0, message="half"),
        }
        assert await repository.list_after({}, before_id=None, limit=1) == [replace(execution, **light)]


async def pages(expected: list[Execution], total: int) -> tuple[list[Execution], int]:
    """A page as it is listed: without the documents."""
    return [replace(one, parameters={}) for one in expected], total


class TestFilters:
    @pytest.mark.parametrize(
        ("changes", "filters"),
        [
            ({"kind": "sleep"}, {"kind": "sleep"}),
            ({"agent_id": "writer"}, {"agent_id": "writer"}),
            ({"task_id": "task-1"}, {"task_id": "task-1"}),
            ({"parent_id": WORKER}, {"parent_id": WORKER}),
            ({"parent_id": WORKER}, {"parent_id": str(WORKER)}),
            ({"start": False}, {"state": S.CREATED}),
            ({"start": False}, {"state": "created"}),
            ({"kind": "sleep", "agent_id": "writer"}, {"kind": "sleep", "agent_id": "writer", "task_id": None}),
        ],
    )
    async def test_what_is_listed(
        self, repository: ExecutionRepository, changes: dict[str, Any], filters: dict[str, Any]
    ) -> None:
        await submit(repository)
        wanted = await submit_some(repository, 3, **changes)
        page, total = await repository.list_executions(filters, {"page_size": 2})
        assert (ids(page), total) == (ids(wanted[:2]), 3)
        assert ids(await repository.list_after(filters, before_id=None, limit=10)) == ids(wanted)

    @pytest.mark.parametrize("state", [S.CANCELLED, S.PENDING])
    async def test_by_state(self, repository: ExecutionRepository, state: ExecutionState) -> None:
        cancelled = await carry_out(repository, await submit(repository), Cancel())
        pending = await submit(repository)
        expected = {S.CANCELLED: cancelled, S.PENDING: pending}[state]
        assert ids(await repository.list_after({"state": state}, before_id=None, limit=10)) == [expected.id]

    @pytest.mark.parametrize("as_text", [False, True])
    async def test_by_time_from_and_before(self, repository: ExecutionRepository, as_text: bool) -> None:
        first, second, third = sorted([await submit(repository) for _ in range(3)], key=lambda one: one.created_at)

        def moment(value: datetime) -> object:
            return value.isoformat() if as_text else value

        filters = {"created_after": moment(second.created_at), "created_before": moment(third.created_at)}
        assert ids(await repository.list_after(filters, before_id=None, limit=10)) == [second.id]
        since = {"created_after": moment(first.created_at - timedelta(seconds=1))}
        assert (await repository.list_executions(since, {}))[1] == 3

    async def test_each_tenant_sees_its_own(self, repository: ExecutionRepository) -> None:
        mine, theirs = await submit(repository), await submit(repository, tenant_id="other")
        assert ids(await repository.list_after({}, before_id=None, limit=10)) == [mine.id]
        assert ids((await repository.list_executions({}, {}, tenant_id="other"))[0]) == [theirs.id]


class TestRefused:
    @pytest.mark.parametrize(
        ("filters", "message"),
        [
            ({"colour": "red"}, "colour='red' is not understood; expected one of state, kind"),
            ({"state": "DONE"}, "state='DONE' is not understood; expected one of CREATED, PENDING"),
            ({"created_after": "yesterday"}, "expected an ISO 8601 time"),
            ({"created_before": "2025-01-01T00:00:00"}, "='2025-01-01 00:00:00' .* expected a time with a time zone"),
            ({"created_before": 5}, "expected a time with a time zone"),
            ({"created_before": "9999-12-31T23:59:59-10:00"}, "expected a time within the years 1 to 9999"),
            ({"parent_id": "mine"}, "parent_id='mine' is not understood; expected a UUID"),
            ({"kind": 5}, "kind=5 is not understood; expected a text"),
            ({"agent_id": "nul \x00"}, "agent_id=.* is not understood; expected a text"),
            ({"task_id": "\ud800"}, "task_id=.* is not understood; expected a text"),
        ],
    )
    async def test_filters(self, repository: ExecutionRepository, filters: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidFilterError, match=message):
            await repository.list_executions(filters, {})
        with pytest.raises(InvalidFilterError, match=message):
            await repository.list_after(filters, before_id=None, limit=1)

    @pytest.mark.parametrize(
        ("page", "message"),
        [
            ({"page": 0}, "page=0 is not understood; expected a whole number from 1"),
            ({"page": 10**18}, "page=1000000000000000000 is not understood"),
            ({"page": "1"}, "expected a whole number from 1"),
            ({"page_size": 0}, "expected a whole number from 1 to 1000"),
            ({"page_size": 1001}, "expected a whole number from 1 to 1000"),
            ({"size": 5}, "size=5 is not understood; expected page and page_size"),
        ],
    )
    async def test_pages(self, repository: ExecutionRepository, page: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidFilterError, match=message):
            await repository.list_executions({}, page)

    @pytest.mark.parametrize("limit", [0, -1, 1001, "5"])
    async def test_limits(self, repository: ExecutionRepository, limit: Any) -> None:
        with pytest.raises(InvalidFilterError, match="limit="):
            await repository.list_after({}, before_id=new_id(), limit=limit)


class TestBroken:
    async def test_a_lost_connection_is_a_database_error_and_the_next_list_works(
        self, repository: ExecutionRepository, sql: AnyConnection
    ) -> None:
        execution = await submit(repository)
        async with sql.transaction():
            await sql.execute("LOCK TABLE executions")
            listing = asyncio.create_task(repository.list_executions({}, {}))
            await eventually(lambda: terminate_who_waits(sql), within=PATIENCE, what="the list waits for the lock")
            with pytest.raises(DatabaseUnavailableError):
                await listing
        assert ids((await repository.list_executions({}, {}))[0]) == [execution.id]


async def terminate_who_waits(sql: AnyConnection) -> int:
    """How many backends that wait for a lock were told to end."""
    await sql.execute("SELECT pg_stat_clear_snapshot()")  # otherwise one transaction sees the activity of its beginning
    told: int = await sql.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return told
