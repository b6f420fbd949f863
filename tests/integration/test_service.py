"""The facade: what clients may ask, what is refused and why, and that a refusal leaves nothing half-written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from execution.domain.execution import Execution, JsonObject
from execution.domain.history import HistoryItem
from execution.domain.retry import RetryPolicy
from execution.domain.state import ExecutionState
from execution.errors import (
    DocumentTooLargeError,
    DuplicateExecutionError,
    ExecutionNotFoundError,
    ExecutionServiceError,
    InvalidDocumentError,
    InvalidExecutionStateError,
    InvalidFilterError,
    InvalidProgressError,
    UnknownKindError,
    VersionConflict,
)
from execution.handlers import HandlerRegistry, TaskContext
from execution.ids import new_id
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.checker import check_all_ended, check_database
from tests.support.service import ended, short_settings, working_service

S = ExecutionState
KIND = "under.test"

Ask = Callable[[ExecutionService, UUID], Coroutine[Any, Any, Any]]


async def first_watched(service: ExecutionService, execution_id: UUID) -> HistoryItem:
    return await anext(aiter(service.watch(execution_id)))


COMMANDS: dict[str, Ask] = {
    "start": lambda service, one: service.start_execution(one),
    "pause": lambda service, one: service.pause_execution(one),
    "resume": lambda service, one: service.resume_execution(one),
    "cancel": lambda service, one: service.cancel_execution(one),
    "retry": lambda service, one: service.retry_execution(one),
    "report_progress": lambda service, one: service.report_progress(one, 1),
    "submit_result": lambda service, one: service.submit_result(one, {}),
    "delete": lambda service, one: service.delete_execution(one),
}
READS: dict[str, Ask] = {
    "get": lambda service, one: service.get_execution(one),
    "get_at": lambda service, one: service.get_execution_at(one, 1),
    "state_history": lambda service, one: service.get_state_history(one),
    "history": lambda service, one: service.history(one),
    "wait": lambda service, one: service.wait(one, 1),
    "watch": first_watched,
}


class Pages(BaseModel):
    first: int
    last: int


async def print_pages(context: TaskContext, parameters: Pages) -> JsonObject:
    return {"pages": parameters.last - parameters.first + 1}


@pytest.fixture
def registry() -> HandlerRegistry:
    registry = HandlerRegistry()
    registry.register(KIND, print_pages)
    return registry


@pytest.fixture
async def service(database_url: str, registry: HandlerRegistry) -> AsyncIterator[ExecutionService]:
    """Without a worker: what is submitted stays as it is."""
    async with open_service(short_settings(database_url), registry=registry) as service:
        yield service
    await check_database(database_url)


async def made(service: ExecutionService, **fields: Any) -> Execution:
    return await service.create_execution("noop", **fields)


async def running(service: ExecutionService, **fields: Any) -> Execution:
    """RUNNING, driven from outside: no worker holds it."""
    execution = await made(service, **fields)
    return await service.state_manager.change_state(execution.id, S.RUNNING)


class TestCreate:
    async def test_it_waits_for_a_worker_at_once(self, service: ExecutionService) -> None:
        execution = await service.create_execution(KIND, {"first": 1, "last": 9}, priority=5, agent_id="a", task_id="t")
        assert (execution.state, execution.version, execution.attempt) == (S.PENDING, 2, 1)
        assert (execution.priority, execution.agent_id, execution.task_id) == (5, "a", "t")
        assert await service.get_execution(execution.id) == execution

    async def test_or_stays_created(self, service: ExecutionService) -> None:
        execution = await made(service, start=False)
        assert (execution.state, execution.version) == (S.CREATED, 1)

    async def test_every_field_is_kept(self, service: ExecutionService) -> None:
        parent, own = new_id(), new_id()
        fields: dict[str, Any] = {
            "id": own,
            "parent_id": parent,
            "run_at": datetime.fromisoformat("2999-01-01T00:00:00+02:00"),
            "retry": RetryPolicy(max_attempts=2, error_types=("Boom",)),
            "schedule_to_start": 60.0,
            "start_to_close": 30.0,
            "trace_context": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }
        execution = await made(service, **fields)
        assert (execution.id, execution.parent_id, execution.trace_context) == (own, parent, fields["trace_context"])
        assert execution.run_at == fields["run_at"]
        assert execution.retry_policy == fields["retry"]
        assert execution.deadline == fields["run_at"] + timedelta(seconds=60)
        assert await service.get_execution(own) == execution

    async def test_the_same_id_again(self, service: ExecutionService) -> None:
        execution = await made(service)
        with pytest.raises(DuplicateExecutionError):
            await made(service, id=execution.id)

    async def test_an_unknown_kind(self, service: ExecutionService) -> None:
        with pytest.raises(UnknownKindError, match=r"'under\.tset'.*Known kinds: .*under\.test"):
            await service.create_execution("under.tset")

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"kind": ""}, "kind: "),
            ({"kind": "a b"}, "kind: "),
            ({"kind": "x" * 101}, "kind: "),
            ({"parameters": [1, 2]}, "parameters: "),
            ({"parameters": {"x": {1, 2}}}, "parameters"),
            ({"parameters": {"x": float("inf")}}, "parameters"),
            ({"parameters": {1: "x"}}, "parameters"),
            ({"parameters": {"x": "\x00"}}, "NUL"),
            ({"parameters": {"x": "\ud800"}}, "parameters"),
            ({"priority": 1001}, "priority: "),
            ({"run_at": datetime(2999, 1, 1)}, "time zone"),
            ({"run_at": "9999-12-31T23:59:59-10:00"}, "run_at: "),
            ({"retry": {"error_types": ["\x00"]}}, "retry: "),
            ({"start_to_close": 0}, "start_to_close: "),
            ({"schedule_to_start": -1}, "schedule_to_start: "),
            ({"trace_context": "not one"}, "trace_context: "),
            ({"agent_id": "a\x00"}, "agent_id: "),
            ({"task_id": ""}, "task_id: "),
            ({"retry": "always"}, "retry: "),
            ({"colour": "red"}, "colour: "),
        ],
    )
    async def test_bad_input_is_named_and_nothing_written(
        self, service: ExecutionService, fields: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(InvalidDocumentError, match=named):
            await service.create_execution(**{"kind": "noop"} | fields)
        assert (await service.list_executions())[1] == 0

    async def test_what_the_handler_would_not_accept(self, service: ExecutionService) -> None:
        with pytest.raises(InvalidDocumentError, match=r"parameters of 'under\.test'.*last: Field required"):
            await service.create_execution(KIND, {"first": 1})
        assert (await service.list_executions())[1] == 0

    async def test_too_large(self, service: ExecutionService) -> None:
        with pytest.raises(DocumentTooLargeError, match="at most 262,144 are kept inline") as raised:
            await made(service, parameters={"x": "y" * 300_000})
        assert raised.value.status == 413


class TestCommands:
    async def test_the_way_through_them(self, service: ExecutionService) -> None:
        execution = await made(service, start=False)
        assert (await service.start_execution(execution.id)).state is S.PENDING
        assert (await service.pause_execution(execution.id)).state is S.PAUSED
        assert (await service.resume_execution(execution.id)).state is S.PENDING
        assert (await service.cancel_execution(execution.id)).state is S.CANCELLED
        retried = await service.retry_execution(execution.id, reason="once more")
        assert (retried.state, retried.attempt) == (S.PENDING, 2)

    @pytest.mark.parametrize("ask", [*COMMANDS.values(), *READS.values()], ids=[*COMMANDS, *READS])
    async def test_an_unknown_id(self, service: ExecutionService, ask: Ask) -> None:
        unknown = new_id()
        with pytest.raises(ExecutionNotFoundError, match=str(unknown)):
            await ask(service, unknown)

    @pytest.mark.parametrize("ask", [*COMMANDS.values(), *READS.values()], ids=[*COMMANDS, *READS])
    async def test_another_tenants_execution_does_not_exist(
        self, service: ExecutionService, database_url: str, ask: Ask
    ) -> None:
        async with open_service(short_settings(database_url, tenant_id="theirs")) as other:
            theirs = await made(other, start=False)
            with pytest.raises(ExecutionNotFoundError):
                await ask(service, theirs.id)
            assert await other.get_execution(theirs.id) == theirs
        assert (await service.list_executions())[1] == 0

    @pytest.mark.parametrize("name", [name for name in COMMANDS if name != "delete"])
    async def test_a_stale_version(self, service: ExecutionService, name: str) -> None:
        execution = await running(service)
        arguments: list[Any] = [1] if name == "report_progress" else []
        method = getattr(service, name if name in {"report_progress", "submit_result"} else f"{name}_execution")
        with pytest.raises(VersionConflict, match="no longer at version 2"):
            await method(execution.id, *arguments, expected_version=2)
        assert await service.get_execution(execution.id) == execution

    async def test_a_refusal_names_what_is_allowed(self, service: ExecutionService) -> None:
        execution = await made(service)
        with pytest.raises(InvalidExecutionStateError, match=r"PENDING \(version 2\).*Allowed now: cancel, pause\."):
            await service.resume_execution(execution.id)
        with pytest.raises(InvalidExecutionStateError, match=r"only an ended .*Allowed now: cancel, pause\."):
            await service.delete_execution(execution.id)
        assert await service.get_execution(execution.id) == execution

    async def test_cancelling_twice_is_once(self, service: ExecutionService) -> None:
        execution = await running(service)
        first = await service.cancel_execution(execution.id)
        assert first.state is S.CANCELLING
        assert await service.cancel_execution(execution.id) == first

    async def test_fifty_at_once_with_the_same_version(self, service: ExecutionService) -> None:
        execution = await running(service)
        answers = await asyncio.gather(
            *(
                service.report_progress(execution.id, number, expected_version=execution.version)
                for number in range(1, 51)
            ),
            return_exceptions=True,
        )
        assert Counter(type(answer) for answer in answers) == {Execution: 1, VersionConflict: 49}
        (winner,) = (answer for answer in answers if isinstance(answer, Execution))
        assert await service.get_execution(execution.id) == winner

    async def test_a_reason_with_characters_that_cannot_be_stored(self, service: ExecutionService) -> None:
        execution = await made(service)
        await service.cancel_execution(execution.id, reason="no\x00t \udcff needed")
        (latest,) = await service.get_state_history(execution.id, limit=1)
        assert latest.reason == "no\ufffdt \ufffd needed"


class TestResultsFromOutside:
    @pytest.mark.parametrize(
        ("arguments", "state"),
        [
            ({"result": {"a": 1}}, S.COMPLETED),
            ({}, S.COMPLETED),
            ({"result": {"a": 1}, "partial": True, "error": {"type": "t", "message": "m"}}, S.PARTIAL_SUCCESS),
            ({"error": {"type": "Boom", "message": "m"}}, S.FAILED),
        ],
    )
    async def test_every_outcome(
        self, service: ExecutionService, arguments: dict[str, Any], state: ExecutionState
    ) -> None:
        execution = await running(service)
        after = await service.submit_result(execution.id, **arguments)
        assert (after.state, after.error) == (state, arguments.get("error"))
        assert after.result == (None if state is S.FAILED else arguments.get("result", {}))

    @pytest.mark.parametrize("result", [{"x": {1}}, {"x": float("nan")}, {"x": "y" * 300_000}, {"x": "\x00"}])
    async def test_one_that_cannot_be_stored(self, service: ExecutionService, result: dict[str, Any]) -> None:
        execution = await running(service)
        with pytest.raises((InvalidDocumentError, DocumentTooLargeError), match="the result"):
            await service.submit_result(execution.id, result)
        assert await service.get_execution(execution.id) == execution

    @pytest.mark.parametrize("percentage", [-1, 101, float("nan"), "50", True])
    async def test_progress_out_of_range(self, service: ExecutionService, percentage: Any) -> None:
        execution = await running(service)
        with pytest.raises(InvalidProgressError):
            await service.report_progress(execution.id, percentage)
        assert await service.get_execution(execution.id) == execution

    async def test_once_it_has_ended_nothing_is_taken(self, service: ExecutionService) -> None:
        execution = await running(service)
        after = await service.submit_result(execution.id, {"a": 1})
        with pytest.raises(InvalidExecutionStateError, match="COMPLETED"):
            await service.report_progress(execution.id, 1)
        with pytest.raises(InvalidExecutionStateError, match="COMPLETED"):
            await service.submit_result(execution.id, {"a": 2})
        assert await service.get_execution(execution.id) == after


class TestReading:
    async def test_time_travel(self, service: ExecutionService) -> None:
        created = await made(service, start=False)
        started = await service.start_execution(created.id)
        paused = await service.pause_execution(created.id)
        resumed = await service.resume_execution(created.id)
        for execution in (created, started, paused, resumed):
            assert await service.get_execution_at(created.id, execution.version) == execution

    async def test_a_version_that_is_not_there(self, service: ExecutionService) -> None:
        execution = await made(service)
        with pytest.raises(VersionConflict):
            await service.get_execution_at(execution.id, 3)
        for version in (0, -1):
            with pytest.raises(InvalidFilterError, match="a number from 1"):
                await service.get_execution_at(execution.id, version)

    async def test_the_history_in_pages(self, service: ExecutionService) -> None:
        execution = await running(service)
        for number in range(1, 6):
            await service.report_progress(execution.id, number)
        first = await service.history(execution.id, limit=3)
        rest = await service.history(execution.id, after_version=first[-1].version)
        assert [item.version for item in (*first, *rest)] == list(range(1, 9))
        for read in (service.history, service.get_state_history):
            with pytest.raises(InvalidFilterError, match="limit"):
                await read(execution.id, limit=0)

    async def test_the_state_history_newest_first(self, service: ExecutionService) -> None:
        execution = await made(service)
        await service.cancel_execution(execution.id, reason="enough")
        items = await service.get_state_history(execution.id)
        assert [item.new_state for item in items] == [S.CANCELLED, S.PENDING, S.CREATED]
        assert (items[0].reason, items[0].actor, items[-1].previous_state) == ("enough", "client", None)
        assert len(await service.get_state_history(execution.id, limit=1)) == 1

    async def test_lists(self, service: ExecutionService) -> None:
        made_here = [await made(service, agent_id="a" if number % 2 else "b") for number in range(5)]
        await service.cancel_execution(made_here[0].id)
        page, total = await service.list_executions({"agent_id": "b"}, {"page": 1, "page_size": 2})
        assert ([one.id for one in page], total) == ([made_here[4].id, made_here[2].id], 3)
        cancelled, _ = await service.list_executions({"state": "CANCELLED"})
        assert [one.id for one in cancelled] == [made_here[0].id]

    @pytest.mark.parametrize(
        ("filters", "pagination"),
        [({"state": "DONE"}, {}), ({"colour": "red"}, {}), ({}, {"page": 0}), ({}, {"page_size": 0})],
    )
    async def test_filters_that_do_not_exist(
        self, service: ExecutionService, filters: dict[str, Any], pagination: dict[str, int]
    ) -> None:
        with pytest.raises(InvalidFilterError):
            await service.list_executions(filters, pagination)


class TestDelete:
    async def test_an_ended_one_and_its_history_are_gone(self, service: ExecutionService) -> None:
        execution = await made(service)
        await service.cancel_execution(execution.id)
        await service.delete_execution(execution.id)
        for read in (service.get_execution, service.history, service.delete_execution):
            with pytest.raises(ExecutionNotFoundError):
                await read(execution.id)


async def test_many_executions_end_to_end(database_url: str, registry: HandlerRegistry) -> None:
    async with working_service(database_url, registry) as service:
        executions = await asyncio.gather(
            *(service.create_execution(KIND, {"first": 1, "last": last}) for last in range(1, 101))
        )
        after = await asyncio.gather(*(ended(service, one.id) for one in executions))
    assert [one.result for one in after] == [{"pages": last} for last in range(1, 101)]
    assert await check_all_ended(database_url) == {"COMPLETED": 100}


def test_every_error_a_client_sees_says_what_it_is() -> None:
    def every(root: type[ExecutionServiceError]) -> list[type[ExecutionServiceError]]:
        return [root, *(inner for one in root.__subclasses__() for inner in every(one))]

    codes = Counter(error.code for error in every(ExecutionServiceError))
    assert [code for code, count in codes.items() if count > 1] == []
    assert all(400 <= error.status < 600 for error in every(ExecutionServiceError))
