"""PostgreSQL goes away under the HTTP door, and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from execution.api.app import create_app
from execution.embedded import EmbeddedPostgres
from execution.wiring import open_service
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.service import PATIENCE, running_worker, short_settings
from tests.support.waiting import eventually

REQUEST_SECONDS = 1.0
CHECK_SECONDS = 0.5
TOLERANCE = 3.0
"""What may be taken beyond a limit on a machine that is busy; the client's own limit of a statement is 15 s."""


@pytest.fixture
async def door(database_url: str, cluster_folder: Path) -> AsyncIterator[tuple[CuttingProxy, httpx.AsyncClient]]:
    """The way to the database, and the API behind it."""
    async with cutting_proxy(database_url, cluster_folder) as (proxy, url):
        settings = short_settings(url, request_timeout_seconds=REQUEST_SECONDS)
        async with open_service(settings) as service, running_worker(service) as worker:
            app = create_app(service)
            app.state.door.look_after(worker)
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=PATIENCE) as api:
                yield proxy, api


async def is_ready(api: httpx.AsyncClient) -> bool:
    began = time.monotonic()
    answer = await api.get("/health/ready")
    assert time.monotonic() - began < CHECK_SECONDS + TOLERANCE, "whoever asks would take it for dead"
    return answer.status_code == 200


async def is_not_ready(api: httpx.AsyncClient) -> bool:
    return not await is_ready(api)


async def completed(api: httpx.AsyncClient) -> None:
    """A submission ends, as if nothing had been."""
    created = await api.post("/v1/executions", json={"kind": "noop"})
    assert created.status_code == 202, created.text

    async def has_ended() -> bool:
        return bool((await api.get(created.headers["location"])).json()["state"] == "COMPLETED")

    await eventually(has_ended, within=PATIENCE, what="the execution is completed")


async def assert_refused_in_time(api: httpx.AsyncClient, path: str) -> None:
    requests = [api.get(path), *(api.post("/v1/executions", json={"kind": "noop"}) for _ in range(5))]
    began = time.monotonic()
    answers = await asyncio.gather(*requests)
    assert time.monotonic() - began < REQUEST_SECONDS + TOLERANCE
    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["retriable"] is True


async def assert_says_why(api: httpx.AsyncClient, reason: str) -> None:
    await eventually(lambda: is_not_ready(api), within=PATIENCE, what="it is not ready")
    answer = await api.get("/health/ready")
    assert answer.json()["checks"]["database"]["reason"] == reason
    assert answer.json()["checks"]["admission"]["status"] == "ok"
    assert (await api.get("/health/live")).status_code == 200
    began = time.monotonic()
    scraped = await api.get("/metrics")
    assert time.monotonic() - began < 2 * CHECK_SECONDS + TOLERANCE
    assert scraped.status_code == 200
    assert "execution_loop_lag_seconds" in scraped.text


async def test_it_is_stopped(door: tuple[CuttingProxy, httpx.AsyncClient]) -> None:
    proxy, api = door
    location = (await api.post("/v1/executions", json={"kind": "noop"})).headers["location"]
    proxy.close_door()
    await assert_says_why(api, "PostgreSQL does not answer")
    await assert_refused_in_time(api, location)
    proxy.open_door()
    await eventually(lambda: is_ready(api), within=PATIENCE, what="it is ready again")
    await completed(api)


async def test_it_hangs(door: tuple[CuttingProxy, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("execution.readiness.CHECK_SECONDS", CHECK_SECONDS)
    monkeypatch.setattr("execution.metrics.SURVEY_SECONDS", CHECK_SECONDS)
    proxy, api = door
    location = (await api.post("/v1/executions", json={"kind": "noop"})).headers["location"]
    proxy.fall_silent()
    await assert_refused_in_time(api, location)  # while what it has just said counts, so that its queries begin
    await assert_says_why(api, "no answer within 0.5 s")
    await assert_refused_in_time(api, location)
    proxy.speak_again()
    await eventually(lambda: is_ready(api), within=PATIENCE, what="it is ready again")
    await completed(api)


async def test_it_crashes_under_load(own_server: EmbeddedPostgres) -> None:
    async with open_service(short_settings(own_server.url)) as service, running_worker(service):
        transport = httpx.ASGITransport(app=create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=PATIENCE) as api:
            seen: list[int] = []
            clients = [asyncio.create_task(_submit_on(api, seen)) for _ in range(8)]
            await eventually(lambda: len(seen) > 40, within=PATIENCE, what="the clients are at work")
            await own_server.restart("immediate")
            seen_before = len(seen)
            await eventually(lambda: 202 in seen[seen_before:], within=PATIENCE, what="submissions are taken again")
            for client in clients:
                client.cancel()
            await asyncio.wait(clients)
            await completed(api)
    assert set(seen) <= {202, 503}


async def _submit_on(api: httpx.AsyncClient, seen: list[int]) -> None:
    while True:
        seen.append((await api.post("/v1/executions", json={"kind": "noop"})).status_code)
