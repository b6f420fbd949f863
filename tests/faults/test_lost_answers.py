"""What commits, and whose answer is lost: no effect twice, and no failure told to a caller that sends again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Any, Protocol
from uuid import UUID

import httpx
import pytest

from events.bus import InProcessEventBus
from execution.api.app import create_app
from execution.builtin.noop import noop
from execution.domain.execution import Execution, JsonObject
from execution.domain.state import ExecutionState
from execution.errors import DatabaseUnavailableError, ExecutionServiceError, OutcomeUnknownError
from execution.handlers import HandlerRegistry
from execution.ids import new_id
from execution.keys import KeyRing
from execution.model_service import embedded_command_bus
from execution.repository.database import Database
from execution.service import ExecutionService
from tests.faults.conftest import Ledger, ended_at_last, insisting
from tests.support.checker import check_all_ended, check_database
from tests.support.cutting_proxy import COMMIT, CuttingProxy, cutting_proxy
from tests.support.given import BOOM
from tests.support.service import PATIENCE, running_worker, short_settings
from tests.support.stored import AnyConnection, versions_by_command
from tests.support.waiting import eventually
from tests.support.worker_process import FAULT_HANDLERS

S = ExecutionState
APPENDS = {"create_executions": 0.05, "append_events": 0.05}
SUBMISSIONS = {"create_executions": 0.15}
WORKERS_WRITES = {"append_events": 0.15, "claim_executions": 0.15, "heartbeat": 0.15}
CALLERS = 10
SENT_AGAIN = 0.2
"""Of the acknowledged commands this share is sent once more: as a queue does that delivers twice."""
PATIENT = 15.0
IMPATIENT = 0.05

Send = Callable[[UUID], Awaitable[Execution]]


@pytest.fixture
async def door(database_url: str, cluster_folder: Path) -> AsyncIterator[tuple[CuttingProxy, str]]:
    """The proxy, and the URL through it."""
    async with cutting_proxy(database_url, cluster_folder) as door:
        yield door


@asynccontextmanager
async def service_through(url: str, *, append_patience: float, **changes: Any) -> AsyncIterator[ExecutionService]:
    """A service with the tests' handlers, whose lanes give up after so many seconds."""
    registry = HandlerRegistry()
    settings = short_settings(url, handlers=FAULT_HANDLERS, **changes)
    registry.register("noop", noop, idempotent=True)
    registry.load(settings.handlers)
    async with (
        Database(url, append_patience=append_patience) as database,
        ExecutionService(database, InProcessEventBus(), embedded_command_bus(), settings, registry=registry) as service,
    ):
        yield service


@dataclass
class Caller:
    """A client that sends commands under ids of its own until each is acknowledged."""

    service: ExecutionService
    chance: Random
    told: Counter[type[ExecutionServiceError]] = field(default_factory=Counter)
    """What it was told before an acknowledgement."""
    written: dict[UUID, list[int]] = field(default_factory=dict)
    """For each acknowledged command, the versions it has written."""

    async def life(self) -> None:
        """One execution through every command there is."""
        service = self.service
        one = await self._send(None, lambda id_: service.create_execution("noop", start=False, command_id=id_))
        one = await self._send(one, lambda id_: service.start_execution(one.id, command_id=id_))
        one = await self._send(one, lambda id_: service.pause_execution(one.id, command_id=id_))
        one = await self._send(one, lambda id_: service.resume_execution(one.id, command_id=id_))
        one = await self._send(one, lambda id_: service.state_manager.change_state(one.id, S.RUNNING, command_id=id_))
        one = await self._send(one, lambda id_: service.report_progress(one.id, 50, command_id=id_))
        one = await self._send(one, lambda id_: service.submit_result(one.id, error=BOOM, command_id=id_), events=2)
        one = await self._send(one, lambda id_: service.retry_execution(one.id, command_id=id_))
        await self._send(one, lambda id_: service.cancel_execution(one.id, command_id=id_), events=2)

    async def _send(self, before: Execution | None, send: Send, *, events: int = 1) -> Execution:
        command_id = new_id()
        after = await insisting(lambda: self._listening(send(command_id)))
        if self.chance.random() < SENT_AGAIN:
            assert await insisting(lambda: self._listening(send(command_id))) == after
        reached = before.version if before else 0
        self.written[command_id] = list(range(reached + 1, reached + 1 + events))
        assert after.version == reached + events
        return after

    async def _listening(self, answer: Awaitable[Execution]) -> Execution:
        try:
            return await answer
        except ExecutionServiceError as error:
            self.told[type(error)] += 1
            raise


class Living(Protocol):
    async def life(self) -> None: ...


async def each_lives(callers: Sequence[Living], lives: int) -> None:
    """All callers at once, each with its share of the lives."""

    async def live(caller: Living) -> None:
        for _ in range(lives // len(callers)):
            await caller.life()

    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(live(caller))


@pytest.mark.parametrize("lives", [100, pytest.param(1_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])])
@pytest.mark.parametrize("patience", [PATIENT, IMPATIENT], ids=["the lane looks it up", "the caller sends again"])
async def test_each_command_has_its_effect_once(
    door: tuple[CuttingProxy, str], sql: AnyConnection, chance: Random, patience: float, lives: int
) -> None:
    proxy, url = door
    async with service_through(url, append_patience=patience) as service:
        callers = [Caller(service, chance) for _ in range(CALLERS)]
        # Shut out for longer than an impatient lane tries, so that its callers are told that nobody knows.
        proxy.lose_answers(chance, APPENDS, shut_seconds=0.0 if patience == PATIENT else 2 * IMPATIENT)
        await each_lives(callers, lives)
    told = sum((caller.told for caller in callers), Counter[type[ExecutionServiceError]]())
    assert proxy.lost["append_events"], "no fault fired"
    if patience == PATIENT:
        assert not told, "the lane found out for itself"
    else:
        assert told[OutcomeUnknownError], f"callers were told {told}"
        assert set(told) <= {OutcomeUnknownError, DatabaseUnavailableError}
    acknowledged = {command_id: versions for caller in callers for command_id, versions in caller.written.items()}
    assert await versions_by_command(sql) == acknowledged
    proxy.lose_answers(chance, {})
    assert await check_database(url) == {"CANCELLED": lives}


@asynccontextmanager
async def http_client(service: ExecutionService) -> AsyncIterator[httpx.AsyncClient]:
    async with KeyRing(service.repository.db, service.settings) as keys:
        transport = httpx.ASGITransport(app=create_app(service, keys=keys))
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=PATIENCE) as client:
            yield client


@dataclass
class KeyedCaller:
    """A client that sends each request under a key until it is answered, and then once more."""

    client: httpx.AsyncClient
    told: Counter[str] = field(default_factory=Counter)
    """What it was told before an answer."""

    async def life(self) -> None:
        """An execution from its submission to its end."""
        created = await self._send("/v1/executions", {"kind": "noop"})
        await self._send(f"/v1/executions/{created['id']}/cancel", {})

    async def _send(self, path: str, body: JsonObject) -> JsonObject:
        key = {"idempotency-key": str(new_id())}

        async def answered() -> httpx.Response | None:
            answer = await self.client.post(path, json=body, headers=key)
            if answer.status_code < HTTPStatus.BAD_REQUEST:
                return answer
            self.told[answer.json()["code"]] += 1
            return None

        first = await eventually(answered, within=PATIENCE, what="the request is answered")
        again = await eventually(answered, within=PATIENCE, what="it is answered again")
        assert again.headers["idempotent-replayed"] == "true"
        assert (again.status_code, again.content) == (first.status_code, first.content)
        document: JsonObject = first.json()
        return document


@pytest.mark.parametrize("lives", [100, pytest.param(1_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])])
@pytest.mark.parametrize("patience", [PATIENT, IMPATIENT], ids=["the lane looks it up", "the caller sends again"])
async def test_each_keyed_request_has_one_effect_and_one_answer(
    door: tuple[CuttingProxy, str], sql: AnyConnection, chance: Random, patience: float, lives: int
) -> None:
    proxy, url = door
    async with (
        service_through(url, append_patience=patience, request_timeout_seconds=2.0) as service,
        http_client(service) as client,
    ):
        callers = [KeyedCaller(client) for _ in range(CALLERS)]
        proxy.lose_answers(chance, {COMMIT: 0.2}, shut_seconds=0.0 if patience == PATIENT else 2 * IMPATIENT)
        await each_lives(callers, lives)
    told = sum((caller.told for caller in callers), Counter[str]())
    assert proxy.lost[COMMIT], "no fault fired"
    if patience == PATIENT:
        assert not told, "the lane found out for itself"
    else:
        assert told["outcome_unknown"], f"callers were told {told}"
        assert set(told) <= {"outcome_unknown", "database_unavailable", "idempotency_key_in_progress"}
    assert [len(versions) for versions in (await versions_by_command(sql)).values()] == [2] * (2 * lives)
    proxy.lose_answers(chance, {})
    assert await check_database(url) == {"CANCELLED": lives}


@pytest.mark.parametrize("executions", [60, pytest.param(1_500, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])])
@pytest.mark.parametrize("patience", [PATIENT, IMPATIENT], ids=["the lane looks it up", "the worker asks again"])
async def test_a_worker_runs_everything_once(
    door: tuple[CuttingProxy, str], ledger: Ledger, chance: Random, patience: float, executions: int
) -> None:
    changes = {"worker_timeout_seconds": 60.0, "worker_concurrency": 4, "claim_batch_limit": 2}
    proxy, url = door
    async with service_through(url, append_patience=patience, **changes) as service:
        ids = [(await service.create_execution("fault.once", ledger.at_once)).id for _ in range(executions)]
        proxy.lose_answers(chance, WORKERS_WRITES, shut_seconds=0.0 if patience == PATIENT else 2 * IMPATIENT)
        async with running_worker(service):
            for execution_id in ids:
                assert (await ended_at_last(service, execution_id)).result == {"attempt": 1}
    assert proxy.lost["append_events"] * proxy.lost["claim_executions"], f"faults fired: {proxy.lost}"
    assert ledger.runs() == {str(execution_id): 1 for execution_id in ids}
    proxy.lose_answers(chance, {})
    assert await check_all_ended(url) == {"COMPLETED": executions}


@pytest.mark.parametrize("executions", [60, pytest.param(1_500, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])])
@pytest.mark.parametrize("patience", [PATIENT, IMPATIENT], ids=["the lane looks it up", "the caller sends again"])
async def test_what_is_submitted_beside_its_worker_runs_once(
    door: tuple[CuttingProxy, str], ledger: Ledger, chance: Random, patience: float, executions: int
) -> None:
    """Started with its creation, whose answer is lost: nobody has to claim it, and nobody may run it twice."""
    proxy, url = door
    async with service_through(url, append_patience=patience, worker_timeout_seconds=60.0) as service:
        worker = service.create_worker()
        async with running_worker(service, worker):
            proxy.lose_answers(chance, SUBMISSIONS, shut_seconds=0.0 if patience == PATIENT else 2 * IMPATIENT)
            ids = [await submitted(service, ledger, new_id()) for _ in range(executions)]
            proxy.lose_answers(chance, {})
            for execution_id in ids:
                assert (await ended_at_last(service, execution_id)).result == {"attempt": 1}
    assert proxy.lost["create_executions"], "no fault fired"
    assert worker.eager.taken, "nothing was started with its creation"
    assert ledger.runs() == {str(execution_id): 1 for execution_id in ids}
    assert await check_all_ended(url) == {"COMPLETED": executions}


async def submitted(service: ExecutionService, ledger: Ledger, command_id: UUID) -> UUID:
    """The id of an execution that was submitted until somebody acknowledged it."""
    execution = await insisting(lambda: service.create_execution("fault.once", ledger.at_once, command_id=command_id))
    return execution.id
