"""What one request may take: some time, and a body of bounded size and shape. (`room.py`: how many there may be.)

The bytes of a body are counted as they arrive, whatever its headers promise. What it is made of is looked at after the
caller is known and before anything parses it (`check_body`, which `GuardedRoute` calls).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from http import HTTPStatus

import structlog
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from execution.api.errors import RequestIncompleteError, RequestTimeoutError, UnsupportedMediaTypeError
from execution.api.problems import problem
from execution.api.room import ALWAYS_ANSWERED, Place, patience_of
from execution.document_bounds import DocumentBounds
from execution.errors import ExecutionServiceError
from execution.request_errors import MalformedRequestError, RequestTooLargeError
from execution.settings import Settings

log = structlog.get_logger(__name__)

BATCH_PATH = "/v1/executions/batch"

_BOUNDS = DocumentBounds()
_BATCH_BOUNDS = DocumentBounds(keys=100_000, values=250_000)
_JSON = re.compile(r"application/json\s*(;\s*charset\s*=\s*\"?utf-?8\"?\s*)?", re.IGNORECASE)


async def check_body(request: Request) -> None:
    """Read the body, if there is one, and refuse what is not JSON of a bounded shape; it stays in the request.

    Raises:
        MalformedRequestError: it is UTF-16 or UTF-32.
        UnsupportedMediaTypeError, RequestTooLargeError, DocumentTooComplexError: see there.
    """
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    media_type, coding = headers.get("content-type", ""), headers.get("content-encoding", "identity")
    if not _JSON.fullmatch(media_type.strip()) or coding.lower() != "identity":
        raise UnsupportedMediaTypeError(media_type if coding == "identity" else f"{media_type} ({coding})")
    bounds = _BATCH_BOUNDS if request.url.path == BATCH_PATH else _BOUNDS
    body = await request.body()
    if b"\0" in body[:4]:
        raise MalformedRequestError(
            "The body", "JSON is sent as UTF-8"
        )  # what else the parser takes, the bounds do not
    bounds.check(body)


class RequestLimits:
    """ASGI middleware: ends what takes too long, or is too much, and gives back the place of what has ended."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer within the limits."""
        if scope["type"] != "http" or scope["path"] in ALWAYS_ANSWERED:
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        seconds = self._settings.request_timeout_seconds + patience_of(headers)
        exchange = _Exchange(receive, send, scope["state"].get("place"), limit=self._body_limit(scope["path"]))
        exchange.announced = _whole_number(dict(headers).get(b"content-length"))
        try:
            await self._within(seconds, exchange, scope)
        finally:
            exchange.leave_room()

    async def _within(self, seconds: float, exchange: _Exchange, scope: Scope) -> None:
        try:
            async with asyncio.timeout(seconds) as exchange.deadline:
                await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            log.debug("http.client_gone")
        except TimeoutError:
            if exchange.deadline is None or not exchange.deadline.expired():
                raise
            if not exchange.has_begun:
                await _answer(exchange.too_late(seconds), scope, exchange.receive, exchange.send)

    def _body_limit(self, path: str) -> int:
        if path == BATCH_PATH:
            return self._settings.batch_limit_bytes
        return self._settings.ordinary_request_limit_bytes


class _Exchange:
    """One request and its answer, as they pass by."""

    def __init__(self, receive: Receive, send: Send, place: Place | None, *, limit: int) -> None:
        self._receive = receive
        self._send = send
        self._place = place
        self._limit = limit
        self._received = 0
        self._awaits_body = False
        self.announced = 0
        self.has_begun = False
        self.deadline: asyncio.Timeout | None = None

    async def receive(self) -> Message:
        """The next part of the body, unless there are too many bytes of it."""
        if self.announced > self._limit:
            raise RequestTooLargeError(self._limit)
        self._awaits_body = True
        message = await self._receive()
        self._awaits_body = bool(message.get("more_body", False))
        self._received += len(message.get("body", b""))
        if self._received > self._limit:
            raise RequestTooLargeError(self._limit)
        return message

    async def send(self, message: Message) -> None:
        """A part of the answer. A stream that has begun needs neither its place nor a limit of time any more."""
        if message["type"] == "http.response.start":
            self.has_begun = True
            if is_stream(message.get("headers", ())) and self.deadline is not None:
                self.deadline.reschedule(None)
                self.leave_room()
        await self._send(message)

    def leave_room(self) -> None:
        """Give the place back, if there is one: without a socket there is none."""
        if self._place is not None:
            self._place.leave()

    def too_late(self, seconds: float) -> ExecutionServiceError:
        """Whose fault it is."""
        return RequestIncompleteError(seconds) if self._awaits_body else RequestTimeoutError(seconds)


def is_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Do these headers, their names in small letters as ASGI has them, begin an event stream?"""
    for name, value in headers:
        if name == b"content-type":
            return value.startswith(b"text/event-stream")
    return False


def _whole_number(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() else 0


async def _answer(error: ExecutionServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Connection": "close"} if error.status == HTTPStatus.REQUEST_TIMEOUT else None
    await problem(error, Request(scope), headers)(scope, receive, send)
