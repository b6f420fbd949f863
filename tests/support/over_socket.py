"""Bytes to a server and back, for what no HTTP client would send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from execution.api.server import HttpServer
from tests.support.service import PATIENCE


@asynccontextmanager
async def connected(live: HttpServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(live.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1024 * 1024)
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.transport.abort()


async def answer_to(live: HttpServer, *pieces: bytes) -> bytes:
    """Everything that is answered, until the connection ends."""
    async with connected(live) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        return await reader.read()
