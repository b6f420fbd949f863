"""A caller is cancelled, at any instant of any call: no connection is lost, and every state is what the log says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Any
from uuid import UUID

import pytest

from execution.domain.execution import Execution
from execution.errors import ExecutionNotFoundError
from execution.ids import new_id
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.cancelling import is_cancelled_at
from tests.support.checker import check_database
from tests.support.client_commands import CLIENT_COMMANDS, ClientCommand
from tests.support.leaks import connections_in_use, fill_pool, nothing_stays_open
from tests.support.service import PATIENCE, short_settings
from tests.support.stored import AnyConnection, versions_by_command

CALLERS = 4
USUAL_OF = 5
"""How often each call is made to know how long it usually takes."""


@dataclass(frozen=True)
class Call:
    """One call of the facade: on which execution, and the call itself with the id of a command for it."""

    name: str
    prepare: Callable[[ExecutionService], Awaitable[Execution]]
    ask: Callable[[ExecutionService, UUID, UUID], Coroutine[Any, Any, Any]]
    is_command: bool = False


def command_call(command: ClientCommand) -> Call:
    return Call(
        command.name,
        command.prepare,
        lambda service, one, id_: command.send(service, one, command_id=id_),
        is_command=True,
    )


async def waiting(service: ExecutionService) -> Execution:
    return await service.create_execution("noop")


async def ended(service: ExecutionService) -> Execution:
    return await service.cancel_execution((await waiting(service)).id)


async def watched(service: ExecutionService, one: UUID) -> None:
    async with aclosing(service.watch(one)) as items:  # type: ignore[type-var]
        async for _ in items:
            pass


CALLS = [
    *(command_call(command) for command in CLIENT_COMMANDS),
    Call("create", waiting, lambda service, _, id_: service.create_execution("noop", command_id=id_), is_command=True),
    Call("delete", ended, lambda service, one, _: service.delete_execution(one)),
    Call("get", waiting, lambda service, one, _: service.get_execution(one)),
    Call("get_at", waiting, lambda service, one, _: service.get_execution_at(one, 2)),
    Call("history", waiting, lambda service, one, _: service.history(one)),
    Call("state_history", waiting, lambda service, one, _: service.get_state_history(one)),
    Call("list", waiting, lambda service, _, __: service.list_executions({"state": "PENDING"}, {"page_size": 5})),
    Call("wait", ended, lambda service, one, _: service.wait(one, PATIENCE)),
    Call("watch", ended, lambda service, one, _: watched(service, one)),
]


@dataclass(frozen=True)
class Usual:
    """How a call goes that nobody disturbs."""

    seconds: float
    events: int
    """How many events it writes."""


class Disturbed:
    """Makes calls that are cancelled, and keeps what has to hold of them afterwards."""

    def __init__(self, service: ExecutionService) -> None:
        self._service = service
        self.cancelled = 0
        self._seen: list[Execution] = []
        self._expected: dict[UUID, list[int]] = {}
        """For each command, the versions that it has to have written in the end."""

    async def cancel_after(self, seconds: float, call: Call, usual: Usual) -> None:
        """Make one call, and cancel its caller so much later."""
        before, command_id = await call.prepare(self._service), new_id()
        caller = asyncio.create_task(call.ask(self._service, before.id, command_id), name=f"caller of {call.name}")
        await asyncio.wait([caller], timeout=seconds)
        caller.cancel()
        done, _ = await asyncio.wait([caller], timeout=PATIENCE)
        assert done, f"{call.name}: its caller was cancelled after {seconds:g} s and has not ended"
        self.cancelled += caller.cancelled()
        if not caller.cancelled():
            caller.result()
        await self._look_at(call, before, command_id, usual)

    async def cancel_at(self, wait: int, times: int, call: Call, usual: Usual) -> bool:
        """Make one call, and cancel its caller where it waits for the n-th time; False if it never does."""
        before, command_id = await call.prepare(self._service), new_id()
        work = call.ask(self._service, before.id, command_id)
        is_cancelled = await is_cancelled_at(wait, work, within=PATIENCE, times=times)
        self.cancelled += is_cancelled
        await self._look_at(call, before, command_id, usual)
        return is_cancelled

    async def check(self, sql: AnyConnection) -> None:
        """Everything that was read is in the log, and every command has its effect once."""
        for execution in self._seen:
            assert await self._service.repository.get_at(execution.id, execution.version) == execution
        written = await versions_by_command(sql)
        assert {command_id: written[command_id] for command_id in self._expected} == self._expected

    async def _look_at(self, call: Call, before: Execution, command_id: UUID, usual: Usual) -> None:
        """Read what it left, and send a command once more: then it is carried out, whatever became of the first."""
        if call.name == "delete":
            await self._look_at_deleted(before)
            return
        self._seen.append(await self._service.get_execution(before.id))
        if call.is_command:
            after = await call.ask(self._service, before.id, command_id)
            self._expected[command_id] = list(range(after.version - usual.events + 1, after.version + 1))
            assert after.version == usual.events + (before.version if after.id == before.id else 0)

    async def _look_at_deleted(self, before: Execution) -> None:
        try:
            assert await self._service.get_execution(before.id) == before
        except ExecutionNotFoundError:
            assert await self._service.repository.get_history(before.id) == []


async def usual(service: ExecutionService, call: Call) -> Usual:
    """How the call goes undisturbed."""
    seconds, events = [], 0
    for _ in range(USUAL_OF):
        before = await call.prepare(service)
        began = time.monotonic()
        after = await call.ask(service, before.id, new_id())
        seconds.append(time.monotonic() - began)
        if call.is_command:
            events = after.version - (before.version if after.id == before.id else 0)
    return Usual(median(seconds), events)


@asynccontextmanager
async def nothing_is_left(service: ExecutionService, sql: AnyConnection) -> AsyncIterator[None]:
    """Nothing stays open, every connection has come back, and every one of them works."""
    database = service.repository.db
    await fill_pool(database)
    async with nothing_stays_open(sql):
        yield
        await fill_pool(database)
    assert connections_in_use(database) == 0


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[ExecutionService]:
    async with open_service(short_settings(database_url)) as service:
        yield service
    await check_database(database_url)


@pytest.mark.parametrize("instants", [300, pytest.param(2_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_at_any_instant(service: ExecutionService, sql: AnyConnection, chance: Random, instants: int) -> None:
    how = {call.name: await usual(service, call) for call in CALLS}
    disturbed = Disturbed(service)

    async def caller() -> None:
        for _ in range(instants // CALLERS):
            call = chance.choice(CALLS)
            seconds = chance.uniform(0, 1.2 * how[call.name].seconds)
            await disturbed.cancel_after(seconds, call, how[call.name])

    async with nothing_is_left(service, sql), asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
    assert disturbed.cancelled > instants / 3, "the instants lie within the calls"
    await disturbed.check(sql)


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
async def test_wherever_it_waits(service: ExecutionService, sql: AnyConnection, times: int) -> None:
    how = {call.name: await usual(service, call) for call in CALLS}
    disturbed = Disturbed(service)
    async with nothing_is_left(service, sql):
        for call in CALLS:
            wait = 1
            while await disturbed.cancel_at(wait, times, call, how[call.name]):
                wait += 1
            assert wait > 1, f"{call.name} waits for nothing"
    await disturbed.check(sql)
