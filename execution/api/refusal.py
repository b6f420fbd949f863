"""Problems ready for the socket: the answer to what is not worth, or not fit for, anything more."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from math import ceil

import orjson
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from execution.errors import ExecutionServiceError
from execution.problems import MEDIA_TYPE, problem_document

log = structlog.get_logger(__name__)

LINE_SECONDS = 1.0


class Refusal:
    """An error as bytes, made once. It names no path; of the request it repeats only the id."""

    def __init__(self, error: ExecutionServiceError) -> None:
        self._body = orjson.dumps(problem_document(error))
        lines = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(self._body)}\r\n"
        self._head = STATUS_LINE[HTTPStatus(error.status)] + lines.encode("ascii")
        self.size = len(self._body)

    def answer(
        self, request_id: bytes, *, closes: bool, has_body: bool = True, retry_after: float | None = None
    ) -> bytes:
        """The whole answer. `closes`: it is the last one on its connection."""
        parts = [self._head, b"x-request-id: ", request_id]
        if retry_after is not None:
            parts.append(b"\r\nretry-after: %d" % max(1, ceil(retry_after)))
        parts.append(b"\r\nconnection: close\r\n\r\n" if closes else b"\r\n\r\n")
        if has_body:
            parts.append(self._body)
        return b"".join(parts)


class RefusalLog:
    """One line a second at most, however many are refused: a line for each would cost more than the refusal."""

    def __init__(self) -> None:
        self._refused = 0

    def note(self, loop: asyncio.AbstractEventLoop) -> None:
        """One more."""
        if not self._refused:
            loop.call_later(LINE_SECONDS, self._write)
        self._refused += 1

    def _write(self) -> None:
        log.warning("http.refused", requests=self._refused, seconds=LINE_SECONDS)
        self._refused = 0
