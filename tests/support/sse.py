"""A client of event streams that reads them as browsers do, over a socket of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.support.service import PATIENCE


@dataclass(frozen=True, kw_only=True)
class StreamEvent:
    """What a browser would dispatch."""

    id: str
    type: str
    data: Any


@dataclass(kw_only=True)
class EventStreamClient:
    """One connection: the head of the answer, and its events as they come."""

    status: int
    headers: dict[str, str]
    reader: asyncio.StreamReader
    last_event_id: str = ""
    """What a browser would send when it comes back."""
    comments: list[str] = field(default_factory=list)
    retry: int | None = None
    body: bytes = b""
    """Of an answer that is no stream."""

    async def next(self) -> StreamEvent | None:
        """The next event; None at the end of the answer. Raises ConnectionError where it breaks off."""
        names: dict[str, list[str]] = {}
        while (line := await self._line()) is not None:
            if line:
                name, _, value = line.partition(":")
                names.setdefault(name, []).append(value.removeprefix(" "))
                continue
            if event := self._dispatched(names):
                return event
            names = {}
        return None

    async def all(self) -> list[StreamEvent]:
        """Every event until the answer ends."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events

    async def some(self, count: int) -> list[StreamEvent]:
        """So many events, each in time."""
        events: list[StreamEvent] = []
        while len(events) < count:
            async with asyncio.timeout(PATIENCE):
                event = await self.next()
            assert event is not None, f"the stream ended after {len(events)} of {count}"
            events.append(event)
        return events

    def _dispatched(self, names: dict[str, list[str]]) -> StreamEvent | None:
        self.comments += names.get("", [])
        if "retry" in names:
            self.retry = int(names["retry"][-1])
        if "id" in names:
            self.last_event_id = names["id"][-1]
        if "data" not in names:
            return None
        data = json.loads("\n".join(names["data"]))
        return StreamEvent(id=self.last_event_id, type=names.get("event", ["message"])[-1], data=data)

    _pending: bytes = b""
    _ended: bool = False

    async def _line(self) -> str | None:
        while b"\n" not in self._pending:
            if self._ended or not (chunk := await self._chunk()):
                self._ended = True
                return None
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    async def _chunk(self) -> bytes:
        size = await self.reader.readline()
        if not size:
            raise ConnectionError("cut")
        chunk = await self._exactly(int(size, 16))
        await self._exactly(2)
        return chunk

    async def _exactly(self, count: int) -> bytes:
        try:
            return await self.reader.readexactly(count)
        except asyncio.IncompleteReadError:
            raise ConnectionError("cut") from None


@asynccontextmanager
async def event_stream(
    url: str, path: str, *, last_event_id: str | None = None, **headers: str
) -> AsyncIterator[EventStreamClient]:
    """Connect, and read the head of the answer; the connection is dropped at the end."""
    address = urlsplit(url)
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    lines = [f"GET {path} HTTP/1.1", f"Host: {address.netloc}", *(f"{name}: {text}" for name, text in headers.items())]
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        async with asyncio.timeout(PATIENCE):
            client = await _answered(reader)
        yield client
    finally:
        writer.transport.abort()


async def _answered(reader: asyncio.StreamReader) -> EventStreamClient:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = (line.partition(":") for line in head[1:] if line)
    client = EventStreamClient(
        status=int(head[0].split()[1]),
        headers={name.lower(): value.strip() for name, _, value in fields},
        reader=reader,
    )
    if length := int(client.headers.get("content-length", 0)):
        client.body = await reader.readexactly(length)
    return client
