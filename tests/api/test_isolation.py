"""Tenants do not see each other: every route of the OpenAPI document, with the ids of another tenant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Self
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from execution.api.server import HttpServer
from execution.domain.execution import Execution
from execution.errors import ExecutionNotFoundError
from execution.keys import KeyRing
from execution.presentation import describe_actor
from execution.principal import Scope
from execution.service import ExecutionService
from tests.support.open_api import Operation, operations
from tests.support.service import PATIENCE

SECRET = "what only the neighbour knows"
GUESSED_ETAGS = {"if-match": "*"}


@pytest.fixture
async def us(live: HttpServer, keys: KeyRing) -> AsyncIterator[httpx.AsyncClient]:
    async with TenantClient("us", live, keys) as client:
        yield client


@pytest.fixture
async def neighbour(live: HttpServer, keys: KeyRing) -> AsyncIterator[httpx.AsyncClient]:
    async with TenantClient("neighbour", live, keys) as client:
        yield client


@pytest.fixture
async def theirs(service: ExecutionService) -> list[Execution]:
    """What the neighbour has: one execution that waits, and one that has ended."""
    view = service.for_tenant("neighbour")
    fields: dict[str, Any] = {"parameters": {"note": SECRET}, "agent_id": "summarizer", "task_id": "t"}
    waiting, ended = [await view.create_execution("noop", **fields) for _ in range(2)]
    return [waiting, await view.cancel_execution(ended.id)]


class TenantClient(httpx.AsyncClient):
    """A client with every right of its tenant."""

    def __init__(self, tenant_id: str, live: HttpServer, keys: KeyRing) -> None:
        super().__init__(base_url=live.url, timeout=PATIENCE)
        self._tenant_id, self._keys = tenant_id, keys

    async def __aenter__(self) -> Self:
        new = await self._keys.create("all", tenant_id=self._tenant_id, scopes=[Scope.ADMIN])
        self.headers["authorization"] = f"Bearer {new.token}"
        await super().__aenter__()
        return self


async def answer(client: httpx.AsyncClient, operation: Operation, execution_id: UUID) -> httpx.Response:
    """What an operation on an execution is answered; of a stream that goes on, only its beginning."""
    path = operation.path.format(**dict.fromkeys(operation.parameters, execution_id))
    async with client.stream(operation.method, path, json=operation.body, headers=GUESSED_ETAGS) as response:
        if response.headers.get("content-type", "").startswith("application/"):
            await response.aread()
    return response


async def test_an_execution_of_another_tenant_is_not_there(
    app: FastAPI,
    us: httpx.AsyncClient,
    neighbour: httpx.AsyncClient,
    service: ExecutionService,
    theirs: list[Execution],
) -> None:
    of_one = [one for one in operations(app.openapi(), "/v1/") if one.parameters]
    assert of_one
    for execution in theirs:
        for operation in of_one:
            refused = await answer(us, operation, execution.id)
            assert refused.status_code == 404, operation.name
            assert refused.json()["code"] == "execution_not_found", operation.name
            assert SECRET not in refused.text
        assert await service.for_tenant("neighbour").get_execution(execution.id) == execution
    for operation in sorted(of_one, key=lambda one: one.method == "DELETE"):
        assert (await answer(neighbour, operation, theirs[1].id)).status_code != 404, f"{operation.name} checks nothing"


async def test_lists_have_only_ones_own(
    app: FastAPI, us: httpx.AsyncClient, service: ExecutionService, theirs: list[Execution]
) -> None:
    own = await service.for_tenant("us").create_execution("noop", task_id="t")
    for query in ({}, {"task_id": "t"}, {"kind": "noop"}, {"state": "PENDING"}):
        listed = await us.get("/v1/executions", params=query)
        assert [item["id"] for item in listed.json()["items"]] == [str(own.id)], query
    assert (await us.get("/v1/executions", params={"agent_id": "summarizer"})).json()["items"] == []
    paged = await us.get("/v1/executions", params={"page": 1, "page_size": 10})
    assert paged.json()["total"] == 1
    assert str(theirs[0].id) not in paged.text


async def test_the_stream_of_all_executions_has_only_ones_own(
    app: FastAPI, us: httpx.AsyncClient, service: ExecutionService
) -> None:
    seen: list[str] = []
    async with asyncio.timeout(PATIENCE), us.stream("GET", "/v1/events") as stream:
        assert stream.status_code == 200
        await service.for_tenant("neighbour").create_execution("noop", {"note": SECRET})
        own = await service.for_tenant("us").create_execution("noop", {"steps": 1})
        async for line in stream.aiter_lines():
            assert SECRET not in line
            if line.startswith("data:"):
                seen.append(json.loads(line.removeprefix("data:"))["execution_id"])
            if len(seen) == own.version:
                break
    assert set(seen) == {str(own.id)}


async def test_bulk_commands_touch_only_ones_own(
    app: FastAPI, us: httpx.AsyncClient, service: ExecutionService, theirs: list[Execution]
) -> None:
    own = await service.for_tenant("us").create_execution("noop", task_id="t")
    cancelled = await us.post("/v1/executions/cancel", json={"filters": {"task_id": "t"}})
    assert cancelled.is_success, cancelled.text
    assert str(own.id) in cancelled.text
    assert str(theirs[0].id) not in cancelled.text
    assert await service.for_tenant("neighbour").get_execution(theirs[0].id) == theirs[0]


async def test_an_id_that_another_tenant_has_cannot_be_taken_over(
    us: httpx.AsyncClient, service: ExecutionService, theirs: list[Execution]
) -> None:
    taken = str(theirs[0].id)
    refused = await us.post("/v1/executions", json={"kind": "noop", "id": taken}, headers={"idempotency-key": taken})
    assert refused.status_code == 409
    assert SECRET not in refused.text
    assert await service.for_tenant("neighbour").get_execution(theirs[0].id) == theirs[0]


@pytest.mark.parametrize("route", ["/v1/executions", "/v1/executions/batch", "/v1/step-jobs"])
async def test_whose_an_id_is_that_is_taken_is_not_said(
    us: httpx.AsyncClient, service: ExecutionService, theirs: list[Execution], route: str
) -> None:
    own = await service.for_tenant("us").create_execution("noop")
    told = []
    for taken in (own, *theirs):
        document: dict[str, Any] = {"id": str(taken.id)}
        document |= {"steps": [{"step_type": "noop"}]} if route.endswith("jobs") else {"kind": "noop"}
        refused = await us.post(route, json={"executions": [document]} if route.endswith("batch") else document)
        headers = sorted(name for name in refused.headers if name not in {"date", "x-request-id"})
        text = refused.text.replace(str(taken.id), "ID").replace(refused.headers["x-request-id"], "REQUEST")
        told.append((refused.status_code, text, headers))
    assert "duplicate_execution" in told[0][1]
    assert told == [told[0]] * len(told)


async def test_what_one_does_is_recorded_under_the_name_of_its_key(
    neighbour: httpx.AsyncClient, service: ExecutionService
) -> None:
    created = await neighbour.post("/v1/executions", json={"kind": "noop"})
    items = await service.for_tenant("neighbour").history(UUID(created.json()["id"]))
    assert {item.actor for item in items} == {"key:all"}
    assert {describe_actor(item) for item in items} == {"key:all"}


async def test_who_was_not_there_before_finds_nothing(service: ExecutionService, theirs: list[Execution]) -> None:
    """Below HTTP, too: the facade's view of a tenant is the one place that decides."""
    with pytest.raises(ExecutionNotFoundError):
        await service.for_tenant("us").get_execution(theirs[0].id)
