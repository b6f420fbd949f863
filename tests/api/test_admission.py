"""A process that has its hands full says so at once, and goes on telling how it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from execution.api.app import create_app
from execution.api.room import Rooms
from execution.wiring import open_service
from tests.support.http_server import served
from tests.support.service import PATIENCE, short_settings
from tests.support.waiting import eventually

PLACES = 3


@dataclass
class Crowd:
    """An app with a few places, and a door at which requests stand until it is opened."""

    app: FastAPI
    api: httpx.AsyncClient
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    inside: int = 0

    @property
    def taken(self) -> int:
        rooms: Rooms = self.app.state.door.rooms
        return rooms.in_flight.taken

    async def fill(self, headers: dict[str, str] | None = None) -> list[asyncio.Task[httpx.Response]]:
        requests = [asyncio.create_task(self.api.get("/stand", headers=headers)) for _ in range(PLACES)]
        await eventually(lambda: self.inside == PLACES, within=PATIENCE, what="every place is taken")
        return requests

    async def let_go(self, requests: list[asyncio.Task[httpx.Response]]) -> None:
        self.opened.set()
        assert {(await request).status_code for request in requests} == {200}


@pytest.fixture
async def crowd(database_url: str) -> AsyncIterator[Crowd]:
    settings = short_settings(database_url, requests_in_flight_limit=PLACES, requests_waiting_limit=PLACES)
    async with open_service(settings) as service:
        app = create_app(service)
        async with served(app) as server, httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as api:
            crowd = Crowd(app, api)

            @app.get("/stand")
            async def stand() -> str:
                crowd.inside += 1
                await crowd.opened.wait()
                return "done"

            yield crowd


async def test_one_too_many_is_refused_and_comes_back(crowd: Crowd) -> None:
    requests = await crowd.fill()
    took = []
    for _ in range(10):  # what else the machine does delays one or the other
        began = time.perf_counter()
        refused = await crowd.api.get("/stand")
        took.append(time.perf_counter() - began)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
    assert min(took) < 0.1
    await crowd.let_go(requests)
    assert (await crowd.api.get("/stand")).status_code == 200


async def test_health_and_metrics_are_answered_all_the_same(crowd: Crowd) -> None:
    requests = await crowd.fill()
    assert (await crowd.api.get("/stand")).status_code == 503
    assert (await crowd.api.get("/health/live")).status_code == 200
    assert (await crowd.api.get("/health/ready")).status_code == 200
    scraped = (await crowd.api.get("/metrics")).text
    assert f"execution_http_requests_in_flight {PLACES + 1}.0" in scraped  # the scrape itself among them
    assert "execution_http_overloaded_requests_total 1.0" in scraped
    await crowd.let_go(requests)


async def test_who_waits_for_an_end_takes_no_place_of_the_others(crowd: Crowd) -> None:
    requests = await crowd.fill({"prefer": "wait=30"})
    assert (await crowd.api.get("/stand", headers={"prefer": "wait=30"})).status_code == 503
    assert (await crowd.api.get("/v1/executions/x")).status_code == 404
    await crowd.let_go(requests)


async def test_a_client_that_goes_away_leaves_its_place(crowd: Crowd) -> None:
    for request in await crowd.fill():
        request.cancel()
        await asyncio.wait([request])
    crowd.opened.set()
    await eventually(lambda: not crowd.taken, within=PATIENCE, what="every place is free")
    assert (await crowd.api.get("/stand")).status_code == 200


async def test_a_stream_that_has_begun_leaves_its_place(crowd: Crowd) -> None:
    begun = asyncio.Event()

    @crowd.app.get("/stream")
    async def stream() -> StreamingResponse:
        async def ticks() -> AsyncIterator[str]:
            yield ": tick\n\n"
            begun.set()
            await crowd.opened.wait()

        return StreamingResponse(ticks(), media_type="text/event-stream")

    streams = []
    for _ in range(PLACES + 1):
        begun.clear()
        streams.append(asyncio.create_task(crowd.api.get("/stream")))
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
    assert f"execution_http_streams_open {PLACES + 1}.0" in (await crowd.api.get("/metrics")).text
    await crowd.let_go(streams)
    assert "execution_http_streams_open 0.0" in (await crowd.api.get("/metrics")).text
