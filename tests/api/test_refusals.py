"""A request for which there is no room is refused at the socket, for next to nothing, and its client is slowed down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from execution.api.door import Door
from execution.api.refusing_protocol import BODY_SECONDS
from execution.api.room import REFUSALS_PER_SECOND, Rooms
from execution.api.server import STOP_SECONDS, HttpServer
from tests.support.crowd import crowd
from tests.support.http_server import served, server_process
from tests.support.over_http import check_problem
from tests.support.over_socket import answer_to, connected
from tests.support.service import PATIENCE
from tests.support.waiting import eventually

ASKED = b"GET /v1/executions HTTP/1.1\r\nhost: x\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
POSTED = b"POST /v1/executions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"requests_in_flight_limit": 1, "connection_limit": 3}


@pytest.fixture
def door(app: FastAPI) -> Door:
    found: Door = app.state.door
    return found


@pytest.fixture
def rooms(door: Door) -> Rooms:
    return door.rooms


@pytest.fixture
def full(rooms: Rooms, live: HttpServer) -> HttpServer:
    """A server whose only place is taken."""
    assert rooms.in_flight.enter()
    return live


def statuses(answers: bytes) -> list[bytes]:
    return [one[:3] for one in answers.split(b"HTTP/1.1 ")[1:]]


class TestAnswer:
    async def test_it_is_a_problem(self, full: HttpServer) -> None:
        async with httpx.AsyncClient(base_url=full.url, timeout=PATIENCE) as client:
            answer = await client.post("/v1/executions", json={"kind": "noop"}, headers={"x-request-id": "mine"})
            check_problem(answer, 503, "overloaded")
            assert (answer.headers["x-request-id"], answer.headers["retry-after"]) == ("mine", "1")
            assert (await client.get("/v1/executions")).headers["x-request-id"] not in ("", "mine")

    async def test_it_is_counted(self, full: HttpServer, door: Door) -> None:
        with capture_logs() as lines:
            for _ in range(3):
                await answer_to(full, ASKED + LAST)
            await eventually(lambda: sum(refusals_in(lines)) == 3, within=PATIENCE, what="the line of that second")
        assert len(refusals_in(lines)) < 3, "a line for each"
        tally = door.metrics.requests
        assert tally.overloaded == 3
        assert tally.answered["GET", "unmatched", 503].counts[0] == 3
        assert_exposed(await door.metrics.exposition())

    async def test_a_head_only(self, full: HttpServer) -> None:
        answers = await answer_to(full, ASKED.replace(b"GET", b"HEAD") + LAST)
        assert statuses(answers) == [b"503", b"200"]
        assert b"overloaded" not in answers

    async def test_in_its_turn(self, full: HttpServer) -> None:
        assert statuses(await answer_to(full, LIVE + ASKED + ASKED + LAST)) == [b"200", b"503", b"503", b"200"]


def refusals_in(lines: Iterable[Any]) -> list[int]:
    return [line["requests"] for line in lines if line["event"] == "http.refused"]


def assert_exposed(scraped: bytes) -> None:
    assert b"execution_http_overloaded_requests_total 3.0" in scraped
    assert b"execution_http_connections_open 0.0" in scraped


class TestBody:
    async def test_a_short_one_is_forgotten(self, full: HttpServer) -> None:
        head = POSTED + b"content-length: 10\r\n\r\n"
        for pieces in ([head + b"0123456789" + LAST], [head, b"0123", b"456789", LAST], [head, b"0123456789" + LAST]):
            assert statuses(await answer_to(full, *pieces)) == [b"503", b"200"], pieces

    async def test_one_that_does_not_come(self, full: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("execution.api.refusing_protocol.BODY_SECONDS", 0.2)
        async with connected(full) as (reader, writer):
            writer.write(POSTED + b"content-length: 10\r\n\r\n0123")
            assert b" 503 " in await reader.readline()
            with suppress(ConnectionError):
                await reader.read()

    @pytest.mark.parametrize(
        "header",
        [b"content-length: 65537", b"transfer-encoding: chunked", b"content-length: 2\r\nexpect: 100-continue"],
    )
    async def test_for_any_other_the_connection_is_given_up(self, full: HttpServer, header: bytes) -> None:
        async with connected(full) as (reader, writer):
            began = time.perf_counter()
            writer.write(POSTED + header + b"\r\n\r\n")
            writer.write(b"1\r\n0\r\n" * 100_000)  # nobody reads it all, and still the answer arrives
            answer = await reader.read()
            assert time.perf_counter() - began < BODY_SECONDS / 2
        assert statuses(answer) == [b"503"]
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.endswith(b"}")

    async def test_what_is_no_body_gets_no_second_answer(
        self, full: HttpServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """To write one would be a defect: the connection takes nothing more, and would be cut."""
        async with connected(full) as (reader, writer):
            writer.write(POSTED + b"transfer-encoding: chunked\r\n\r\nno chunk\r\n")
            assert statuses(await reader.read()) == [b"503"]
        assert not [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


class TestRest:
    async def test_who_comes_back_early_is_not_read(self, full: HttpServer, rooms: Rooms) -> None:
        rooms.resting = 300 * REFUSALS_PER_SECOND // 1000 - 1
        began = time.perf_counter()
        assert statuses(await answer_to(full, ASKED + LAST)) == [b"503", b"200"]
        assert 0.3 <= time.perf_counter() - began < PATIENCE

    async def test_retry_after_says_for_how_long(self, full: HttpServer, rooms: Rooms) -> None:
        rooms.resting = 4 * REFUSALS_PER_SECOND
        async with connected(full) as (reader, writer):
            writer.write(ASKED)
            assert b"\r\nretry-after: 5\r\n" in await reader.readuntil(b"\r\n\r\n")
            assert rooms.resting == 4 * REFUSALS_PER_SECOND + 1

    async def test_others_are_served_meanwhile(self, full: HttpServer, rooms: Rooms) -> None:
        rooms.resting = 60 * REFUSALS_PER_SECOND
        async with connected(full) as (reader, writer):
            writer.write(ASKED + LIVE)
            await reader.readuntil(b"\r\n\r\n")
            assert statuses(await answer_to(full, LAST)) == [b"200"]

    async def test_it_does_not_delay_a_stop(self, app: FastAPI, rooms: Rooms) -> None:
        async with served(app) as server:
            assert rooms.in_flight.enter()
            rooms.resting = 60 * REFUSALS_PER_SECOND
            async with connected(server) as (reader, writer):
                writer.write(ASKED + LIVE)
                await reader.readuntil(b"\r\n\r\n")
                stopped_at = time.perf_counter()
                server.stop()
                await reader.read()
        assert time.perf_counter() - stopped_at < STOP_SECONDS

    async def test_who_leaves_rests_no_more(self, full: HttpServer, rooms: Rooms) -> None:
        async with connected(full) as (reader, writer):
            writer.write(ASKED)
            await reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: not rooms.resting, within=PATIENCE, what="nobody rests")


class TestConnections:
    async def test_beyond_the_limit_they_are_told_so(self, live: HttpServer, door: Door) -> None:
        async with connected(live), connected(live), connected(live):
            async with connected(live) as (reader, writer):
                writer.write(ASKED)
                answer = await reader.read()
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"3 connections are open already" in answer
            async with connected(live) as (reader, writer):
                writer.write(LIVE)
                assert (await reader.read()).endswith(b'{"status":"alive"}'), "and closed, though nobody asked for that"
        await eventually(lambda: not door.metrics.requests.connections, within=PATIENCE, what="they are gone")
        assert statuses(await answer_to(live, ASKED + LAST)) == [b"200", b"200"]

    async def test_far_beyond_it_they_are_cut(
        self, live: HttpServer, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("execution.api.refusing_protocol.SPARE_CONNECTIONS", 0)
        async with connected(live), connected(live), connected(live):
            with pytest.raises(ConnectionError):
                await answer_to(live, b"", b"", LIVE, LIVE)
        assert door.metrics.requests.cut_connections == 1

    async def test_places_are_given_back(self, live: HttpServer, rooms: Rooms) -> None:
        for _ in range(3):
            await answer_to(live, ASKED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert rooms.in_flight.taken == 0


async def test_everybody_of_a_crowd_gets_through(live: HttpServer, rooms: Rooms) -> None:
    rooms.in_flight.places = rooms.connections = 100
    answers = await asyncio.gather(*(answer_to(live, ASKED + LAST) for _ in range(40)))
    assert all(statuses(one) == [b"200", b"200"] for one in answers)


@pytest.mark.parametrize(
    ("places", "seconds", "at_least"), [(20, 1.0, 0.5), pytest.param(100, 3.0, 0.9, marks=pytest.mark.slow)]
)
async def test_four_times_as_many_clients_as_places(
    database_url: str, places: int, seconds: float, at_least: float
) -> None:
    async with server_process(database_url, "--no-worker", requests_in_flight_limit=places) as server:
        ratios = []
        for _ in range(6):  # what else the machine does disturbs one side or the other
            enough = await crowd(server.url, places, seconds=seconds)
            too_many = await crowd(server.url, 4 * places, seconds=seconds)
            assert too_many.refused_per_second <= 1.5 * REFUSALS_PER_SECOND
            assert not too_many.others
            ratios.append(too_many.accepted_per_second / enough.accepted_per_second)
            if ratios[-1] >= at_least:
                break
        assert max(ratios) >= at_least
        refused_ms = []
        for _ in range(4):
            heeding = await crowd(server.url, 4 * places, seconds=max(seconds, 1.5), pause=1.0)
            refused_ms.append(heeding.refused_ms)
            if refused_ms[-1] < 50:
                break
        assert min(refused_ms) < 50
