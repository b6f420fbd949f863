"""An HTTP server on loopback whose every answer a test decides, byte by byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Respond = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Answers a request, given its head."""


@dataclass
class Origin:
    """Where it is, and the heads (and bodies) of what it was sent."""

    port: int
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def answer(body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer; `headers` end with CRLF each."""
    return (f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n").encode() + body


def always(whole_answer: bytes) -> Respond:
    """The same answer to everything."""

    async def respond(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole_answer)

    return respond


@asynccontextmanager
async def origin(respond: Respond, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    """Serves until the end of the block; whoever is being answered then is cut off."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            here.requests.append((head + await reader.readexactly(length)).decode())
            await respond(head, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    here = Origin(port=server.sockets[0].getsockname()[1])
    try:
        yield here
    finally:
        server.close()
        for task in connections:
            task.cancel()
        if connections:
            await asyncio.wait(connections)
