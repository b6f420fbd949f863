"""How much one request may take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from execution.api.app import create_app
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.service import PATIENCE, short_settings

JSON = {"content-type": "application/json"}


async def in_pieces(body: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), size):
        yield body[begin : begin + size]


def submission(size: int) -> bytes:
    """A submission of about so many bytes."""
    return json.dumps({"kind": "noop", "parameters": {"text": "a" * size}}).encode()


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service", timeout=PATIENCE)


class TestSize:
    async def test_a_body_is_refused_by_what_it_promises(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/v1/executions", content=b"{}", headers=JSON | {"content-length": "999999999"})
        assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")

    async def test_a_body_that_promises_nothing_is_counted_as_it_arrives(self, api: httpx.AsyncClient) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 10_000
                yield b" " * 10_000

        answer = await api.post("/v1/executions", content=endless(), headers=JSON)
        assert (answer.status_code, answer.json()["limit"]) == (413, 262_144 + 32_768)
        assert sent <= 400_000

    async def test_the_largest_document_that_is_stored_gets_through(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/v1/executions", content=in_pieces(submission(262_000)), headers=JSON)
        assert answer.status_code == 202
        answer = await api.post("/v1/executions", content=submission(263_000), headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "document_too_large")

    async def test_it_can_be_set(self, database_url: str) -> None:
        async with (
            open_service(short_settings(database_url, request_limit_bytes=1024)) as service,
            client_of(create_app(service)) as api,
        ):
            assert (await api.post("/v1/executions", content=submission(900), headers=JSON)).status_code == 202
            assert (await api.post("/v1/executions", content=submission(1100), headers=JSON)).status_code == 413


class TestShape:
    async def test_deep_nesting(self, api: httpx.AsyncClient) -> None:
        for depth in (100, 290_000):
            answer = await api.post("/v1/executions", content=b"[" * depth, headers=JSON)
            assert (answer.status_code, answer.json()["code"]) == (422, "document_too_complex")

    async def test_many_keys(self, api: httpx.AsyncClient) -> None:
        body = {"kind": "noop", "parameters": {f"{number:x}": 0 for number in range(20_001)}}
        answer = await api.post("/v1/executions", json=body)
        assert answer.json()["what"] == "keys"

    async def test_another_media_type(self, api: httpx.AsyncClient) -> None:
        for media_type in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"):
            answer = await api.post("/v1/executions", content=submission(1), headers={"content-type": media_type})
            assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")

    async def test_a_compressed_body(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/v1/executions", content=b"1f8b", headers=JSON | {"content-encoding": "gzip"})
        assert answer.status_code == 415

    async def test_json_that_says_its_charset(self, api: httpx.AsyncClient) -> None:
        for media_type in ("application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'):
            answer = await api.post("/v1/executions", content=submission(1), headers={"content-type": media_type})
            assert answer.status_code == 202


class TestTime:
    @pytest.fixture
    async def impatient(self, database_url: str) -> AsyncIterator[ExecutionService]:
        async with open_service(short_settings(database_url, request_timeout_seconds=0.3)) as service:
            yield service

    async def test_a_body_that_does_not_arrive(self, impatient: ExecutionService) -> None:
        async def stalled() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        async with client_of(create_app(impatient)) as api:
            answer = await api.post("/v1/executions", content=stalled(), headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (408, "request_incomplete")
        assert answer.headers["connection"] == "close"

    async def test_an_answer_that_does_not_come(self, impatient: ExecutionService) -> None:
        app = create_app(impatient)

        @app.get("/never")
        async def never() -> None:
            await asyncio.Event().wait()

        async with client_of(app) as api:
            answer = await api.get("/never")
        assert (answer.status_code, answer.json()["code"]) == (503, "request_timeout")
        assert answer.headers["retry-after"] == "1"

    async def test_who_asks_to_be_kept_waiting_is_given_more_time(self, impatient: ExecutionService) -> None:
        app = create_app(impatient)

        @app.get("/later")
        async def later() -> str:
            await asyncio.sleep(0.6)
            return "done"

        async with client_of(app) as api:
            assert (await api.get("/later")).status_code == 503
            assert (await api.get("/later", headers={"prefer": "wait=5"})).status_code == 200

    async def test_a_stream_that_has_begun_has_no_limit(self, impatient: ExecutionService) -> None:
        app = create_app(impatient)

        @app.get("/stream")
        async def stream() -> StreamingResponse:
            async def ticks() -> AsyncIterator[str]:
                for _ in range(3):
                    yield ": tick\n\n"
                    await asyncio.sleep(0.2)

            return StreamingResponse(ticks(), media_type="text/event-stream")

        async with client_of(app) as api:
            assert (await api.get("/stream")).text == ": tick\n\n" * 3
