"""What clients can do to a socket before there is a request, and after there is an answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from execution.api.protocol import HEAD_LIMIT_BYTES
from execution.api.server import HttpServer, bound
from tests.support.over_socket import answer_to, connected
from tests.support.service import PATIENCE

ENOUGH = 64 * 1024 * 1024


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(f"execution.api.protocol.{name}", 0.3)


class TestHead:
    async def test_one_that_is_too_large(self, live: HttpServer) -> None:
        for head in (
            b"GET /health/live HTTP/1.1\r\nhost: x\r\nlong: " + b"a" * HEAD_LIMIT_BYTES + b"\r\n\r\n",
            b"GET /health/live?" + b"a" * HEAD_LIMIT_BYTES + b" HTTP/1.1\r\nhost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: a\r\n" % number for number in range(6_000)) + b"\r\n",
        ):
            answer = await answer_to(live, head)
            assert answer.startswith(b"HTTP/1.1 431 "), head[:40]
            assert b'"code":"head_too_large"' in answer

    async def test_one_that_never_ends(self, live: HttpServer) -> None:
        sent = 0
        async with connected(live) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nendless: ")
            while not reader.at_eof() and sent < ENOUGH:
                writer.write(b"a" * 8_192)
                sent += 8_192
                try:
                    await writer.drain()
                except ConnectionError:
                    break
                await asyncio.sleep(0)
        assert sent < ENOUGH

    async def test_one_that_comes_in_pieces_between_others(self, live: HttpServer) -> None:
        request = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"
        last = b"connection: close\r\n\r\n"
        answer = await answer_to(live, request + b"\r\n" + request[:10], request[10:] + b"a: b\r\n", last)
        assert answer.count(b'{"status":"alive"}') == 2

    async def test_a_body_does_not_count_as_head(self, live: HttpServer) -> None:
        async with httpx.AsyncClient(base_url=live.url, timeout=PATIENCE) as client:
            body = {"kind": "noop", "parameters": {"text": "a" * 200_000}}
            for _ in range(3):
                assert (await client.post("/v1/executions", json=body)).status_code == 202

    async def test_what_is_no_request(self, live: HttpServer) -> None:
        answer = await answer_to(live, b"\x16\x03\x01 hello\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer

    @pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nslow: "])
    @pytest.mark.usefixtures("hurried")
    async def test_one_that_does_not_come(self, live: HttpServer, begun: bytes) -> None:
        async with connected(live) as (reader, writer):
            writer.write(begun)
            with suppress(ConnectionError):
                assert await reader.read() == b"", "it is cut without an answer"

    @pytest.mark.usefixtures("hurried")
    async def test_a_request_under_way_is_not_hurried(self, app: FastAPI, live: HttpServer) -> None:
        @app.get("/slow")
        async def slow() -> str:
            await asyncio.sleep(0.7)
            return "done"

        async with httpx.AsyncClient(base_url=live.url, timeout=PATIENCE) as client:
            for _ in range(2):
                assert (await client.get("/slow")).text == '"done"'


@pytest.mark.usefixtures("hurried")
async def test_who_does_not_read_is_cut(app: FastAPI, live: HttpServer) -> None:
    answered = asyncio.Event()

    @app.get("/large")
    async def large() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                for _ in range(ENOUGH // 65_536):
                    yield b"a" * 65_536
            finally:
                answered.set()

        return StreamingResponse(pieces())

    async with connected(live) as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        await answered.wait()
        received = 0
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                received += len(piece)
        assert received < ENOUGH


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_packet_waits_for_the_receipt_of_the_one_before(host: str) -> None:
    with bound(host, 0) as at, socket.create_connection(at.getsockname()[:2]), at.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
