"""Requests over kept connections, each sent when the one before on its connection is answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import quantiles

SECONDS_TO_ANSWER = 10.0
LEAST_REQUESTS = 2
"""Of each connection, however slow the machine is: percentiles need some."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Answers per second, and milliseconds from a request to its answer."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def measure(port: int, request: bytes, *, connections: int, seconds: float) -> Measured:
    """Send the same request for so long, over so many connections at once.

    Raises:
        RuntimeError: an answer was no success.
    """
    latencies: list[float] = []
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_client(port, request, began + seconds, latencies))
    elapsed = time.perf_counter() - began
    percentiles = quantiles(latencies, n=100)
    return Measured(per_second=len(latencies) / elapsed, p50_ms=percentiles[49], p99_ms=percentiles[98])


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """One with a JSON document."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


async def answer(port: int, request: bytes) -> bytes:
    """The body of the answer to one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await _exchange(reader, writer, request)
    finally:
        writer.close()


async def _client(port: int, request: bytes, until: float, latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        sent_before = 0
        while (sent := time.perf_counter()) < until or sent_before < LEAST_REQUESTS:
            sent_before += 1
            await _exchange(reader, writer, request)
            latencies.append((time.perf_counter() - sent) * 1000)
    finally:
        writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    writer.write(request)
    async with asyncio.timeout(SECONDS_TO_ANSWER):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 20"):
        raise RuntimeError(f"an answer was no success: {head[:40]!r} {body[:200]!r}")
    return body
