"""`Prefer: wait`: the answer to a submission is its end, if that comes in time."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from execution.api.app import create_app
from execution.handlers import HandlerRegistry, TaskContext
from execution.service import ExecutionService
from tests.support.service import PATIENCE, Counted, running_worker

KIND = "under.test"


@pytest.fixture
def gate() -> Counted:
    """Where executions of the kind under test wait."""
    return Counted.new()


@pytest.fixture
def registry(gate: Counted) -> HandlerRegistry:
    registry = HandlerRegistry()

    async def stand(context: TaskContext, parameters: object) -> None:
        await gate.stand()

    registry.register(KIND, stand)
    return registry


async def posted(api: httpx.AsyncClient, prefer: str, kind: str = KIND) -> httpx.Response:
    return await api.post("/v1/executions", json={"kind": kind}, headers={"prefer": prefer})


async def test_it_ends_in_time(api: httpx.AsyncClient, service: ExecutionService, gate: Counted) -> None:
    async with running_worker(service):
        waiting = asyncio.create_task(posted(api, "wait=10"))
        await gate.has_started()
        assert not waiting.done()
        gate.let_go.set()
        answer = await waiting
    assert (answer.status_code, answer.json()["state"]) == (200, "COMPLETED")
    assert answer.headers["preference-applied"] == "wait=10"
    assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
    assert answer.json() == (await api.get(answer.headers["location"])).json()


async def test_it_does_not(api: httpx.AsyncClient, service: ExecutionService, gate: Counted) -> None:
    """Then the answer is how far it has come."""
    async with running_worker(service):
        answer = await posted(api, "wait=1")
        gate.let_go.set()
    assert (answer.status_code, answer.json()["state"]) == (202, "RUNNING")
    assert answer.headers["preference-applied"] == "wait=1"
    assert gate.runs == 1


@pytest.mark.parametrize("prefer", ["wait=0", "wait", "wait=-1", "wait=x", "respond-async", "", "wait=99999999999"])
async def test_what_is_no_wait_does_not_make_it_fail(api: httpx.AsyncClient, prefer: str) -> None:
    began = time.monotonic()
    answer = await posted(api, prefer)
    assert (answer.status_code, time.monotonic() - began < PATIENCE / 2) == (202, True)
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize("prefer", ['respond-async, wait="10"', "handling=lenient; x=y, WAIT = 10"])
async def test_the_preference_among_others(
    api: httpx.AsyncClient, service: ExecutionService, prefer: str, gate: Counted
) -> None:
    gate.let_go.set()
    async with running_worker(service):
        answer = await posted(api, prefer)
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=10")


async def test_nobody_waits_longer_than_a_minute(service: ExecutionService) -> None:
    """A door that is closing lets go whoever waits; until then the wait is what was granted."""
    app = create_app(service)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://service", timeout=PATIENCE
    ) as api:
        app.state.door.closing.set()
        answer = await posted(api, "wait=3600")
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=60")
