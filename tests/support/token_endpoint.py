"""An OAuth 2.0 token endpoint over HTTPS, which answers as a test says and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Answer = tuple[int, Any]


@dataclass
class TokenEndpoint:
    """What it was asked (head and form), and how it answers."""

    port: int = 0
    answer: Callable[[], Answer | Awaitable[Answer]] = lambda: (200, {"access_token": "none", "expires_in": 1})
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/token"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(line for line in head.lower().splitlines() if line.startswith("content-length:"))
            self.requests.append((head, (await reader.readexactly(int(length.split(":")[1]))).decode()))
            status, content = await self._answered()
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            head = f"HTTP/1.1 {status} X\r\nLocation: {self.url}\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked has gone
        finally:
            writer.close()

    async def _answered(self) -> Answer:
        given = self.answer()
        return given if isinstance(given, tuple) else await given


@asynccontextmanager
async def token_endpoint(certificate: Path) -> AsyncIterator[TokenEndpoint]:
    """One that serves as long as the block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    endpoint = TokenEndpoint()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, ssl=context)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
