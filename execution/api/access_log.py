"""An id for every request, one line in the log for every answer, and the counts for metrics.

What a line tells: the method, the template of the route (never the path or the query), the status, how long it took,
how many bytes were sent, whose key it was. Nothing of bodies, and no header but the request's id.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from http import HTTPStatus

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from execution.api.limits import is_stream
from execution.api.problems import problem
from execution.api.room import ALWAYS_ANSWERED
from execution.errors import ExecutionServiceError
from execution.ids import new_id
from execution.request_tally import RequestTally

log = structlog.get_logger(__name__)

UNMATCHED = "unmatched"
"""The route of a request that no route takes."""
CLIENT_GONE = 499
"""The status of an answer that was never begun because nobody waited for it any more."""

_REPLAYED = (b"idempotent-replayed", b"true")
_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:~+/=-]{0,127}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class AccessLog:
    """ASGI middleware, outermost: whatever is answered passes through it.

    Args:
        writes_lines: otherwise it only gives ids and counts.
    """

    def __init__(self, app: ASGIApp, *, tally: RequestTally, writes_lines: bool = True) -> None:
        self._app = app
        self._tally = tally
        self._writes_lines = writes_lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and take note of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(request_id_of(scope["headers"]), "ascii")
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, self._tally)
        # Not as a context manager: that one looks through everything else in the context, for each request.
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            log.exception("http.defect", route=_route(scope))
            if not answer.status:
                await problem(ExecutionServiceError(), Request(scope))(scope, receive, answer.send)
            raise
        finally:
            answer.end()
            self._note(scope, answer)
            structlog.contextvars.reset_contextvars(**bound)

    def _note(self, scope: Scope, answer: _Answer) -> None:
        status, method, route = answer.status or CLIENT_GONE, counted_method(scope["method"]), _route(scope)
        self._tally.note(method, route, status, answer.seconds)
        self._tally.rate_limited += status == HTTPStatus.TOO_MANY_REQUESTS
        if not self._writes_lines:
            return
        write = log.debug if scope["path"] in ALWAYS_ANSWERED else log.info
        principal = scope.get("principal")
        write(
            "http.request",
            method=method,
            route=route,
            status=status,
            duration_ms=round((time.perf_counter() - answer.began) * 1000, 2),
            bytes=answer.sent_bytes,
            key=getattr(principal, "name", None),
        )


class _Answer:
    """What is sent, as it passes by."""

    def __init__(self, send: Send, request_id: str, tally: RequestTally) -> None:
        self._send = send
        self._request_id = request_id
        self._tally = tally
        self._is_stream = False
        self.began = time.perf_counter()
        self.seconds = 0.0
        """To its end; of a stream, to its beginning."""
        self.status = 0
        self.sent_bytes = 0
        tally.in_flight += 1

    async def send(self, message: Message) -> None:
        """Pass it on, with the request's id."""
        if message["type"] == "http.response.start":
            self._begin(message)
        else:
            size = len(message.get("body", b""))
            self.sent_bytes += size
            self._tally.sent_bytes += size
        await self._send(message)

    def end(self) -> None:
        """Nothing more is sent."""
        if self._is_stream:
            self._tally.open_streams -= 1
        else:
            self._tally.in_flight -= 1
            self.seconds = time.perf_counter() - self.began

    def _begin(self, message: Message) -> None:
        self.status = int(message["status"])  # an enum in what some routes send
        headers = message["headers"] = list(message.get("headers", ()))
        self._tally.replays += _REPLAYED in headers
        headers.append((b"x-request-id", self._request_id.encode("ascii")))
        if is_stream(headers):
            self._is_stream = True
            self._tally.in_flight -= 1
            self._tally.open_streams += 1
            self.seconds = time.perf_counter() - self.began


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The client's own id of the request if it is sane, otherwise a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return value
    return new_id().hex.encode("ascii")


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path_format", None) or UNMATCHED


def counted_method(method: str) -> str:
    """The method as metrics and logs call it: one of a few."""
    return method if method in _METHODS else "OTHER"
