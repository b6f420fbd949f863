"""Server-sent events on the wire: the frames, and a response that sends them as long as its client takes them.

FastAPI's own response sends through queues and tasks of its own for each client, and cannot say with a ping how far the
stream has got; of it, the format is used. A client here costs one task besides that of its request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from random import uniform
from typing import Protocol

import orjson
import structlog
from fastapi import Response
from fastapi.sse import format_sse_event
from starlette.types import Receive, Scope, Send

from execution.api.streams import OpenStream
from execution.domain.execution import JsonObject
from execution.domain.history import HistoryItem
from execution.errors import ExecutionServiceError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
FAREWELL_SECONDS = 1.0
"""What a client gets to take the last words."""
RETRY_MILLISECONDS = 500, 3_000
"""When a client shall be back: not all of them in the same moment."""


class Source(Protocol):
    """Where the frames of one stream come from."""

    @property
    def has_ended(self) -> bool:
        """Has the last one been taken?"""

    def begin(self) -> bytes:
        """What a client is told first."""

    async def take(self) -> bytes:
        """The next frames as soon as there are some, or a ping: never nothing for long.

        Raises:
            ExecutionServiceError: there will be no more.
        """


class EventStream(Response):
    """Sends what comes from a source until it has ended, the client is gone, or the stream is told to end.

    A client that does not read is the socket's affair: the server cuts it, and it is gone (`protocol.py`).
    """

    media_type = MEDIA_TYPE

    def __init__(self, source: Source, stream: OpenStream, *, lifetime: float) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._source = source
        self._stream = stream
        self._lifetime = lifetime
        self._client_is_gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        looking = asyncio.create_task(self._look_for_the_end_of(receive), name="stream's client")
        try:
            await self._send_all(send)
            if not self._client_is_gone:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FAREWELL_SECONDS):
                        await send({"type": "http.response.body", "body": self._last_words(), "more_body": False})
        finally:
            looking.cancel()

    async def _send_all(self, send: Send) -> None:
        body = asyncio.timeout(self._lifetime)
        try:
            async with body:
                self._stream.begin(body)
                await _send_on(send, retry_frame() + self._source.begin())
                while not self._source.has_ended:
                    await _send_on(send, await self._source.take())
        except ExecutionServiceError as error:
            log.info("stream.ended_early", reason=error.code)
        except TimeoutError:
            if not body.expired():
                raise

    def _last_words(self) -> bytes:
        return b"" if self._source.has_ended else retry_frame("to be continued: connect again")

    async def _look_for_the_end_of(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._client_is_gone = True
        self._stream.end()


def entry_frames(entries: Iterable[tuple[HistoryItem, str]]) -> bytes:
    """Entries of a log with their ids."""
    return b"".join(
        format_sse_event(data_str=item.encoded.decode(), event=item.type, id=event_id) for item, event_id in entries
    )


def named_frame(event: str, data: JsonObject, event_id: str) -> bytes:
    """An event of the stream itself."""
    return format_sse_event(event=event, data_str=orjson.dumps(data).decode(), id=event_id)


def ping_frame(event_id: str | None = None) -> bytes:
    """A comment, and where the stream has got to: an id without data moves a client on and dispatches nothing."""
    return format_sse_event(comment="ping", id=event_id)


def retry_frame(comment: str | None = None) -> bytes:
    """How long to wait before connecting again."""
    return format_sse_event(comment=comment, retry=round(uniform(*RETRY_MILLISECONDS)))


async def _send_on(send: Send, frames: bytes) -> None:
    await send({"type": "http.response.body", "body": frames, "more_body": True})
