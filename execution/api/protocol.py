"""HTTP on a socket, with the bounds that uvicorn leaves open: on what comes before a body, and on who does not read.

A request's head (its first line and its headers) may have so many bytes, and so much time to arrive. What has no head
is not a request yet, so it is answered here, and its connection ends.
"""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from execution.api.access_log import request_id_of
from execution.api.errors import HeadTooLargeError
from execution.api.refusal import Refusal
from execution.request_errors import MalformedRequestError

HEAD_LIMIT_BYTES = 32_768
"""Of one request. What arrives at once may exceed it by as much as one read of the socket brings."""
HEAD_SECONDS = 10.0
"""What a head may take, from the connection or from its first bytes on."""
STALLED_SECONDS = 30.0
"""How long what was sent may lie unread, once it is more than fits: then the connection is cut. To close it would
be to wait for the reader."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A head that arrives at once, and an answer that fits, cost no timer."""

    _reads_head = True
    _head_is_new = False
    """Has it begun within the last read? Then what of the read belongs to it is not known."""
    _head_bytes = 0
    _is_too_large = False
    _head_due: asyncio.TimerHandle | None = None
    _reading_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected: a first request is expected."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stop_waiting_for_head()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, and see how much of a head it leaves incomplete."""
        self._head_is_new = False
        super().data_received(data)
        if not self._reads_head or self.transport.is_closing():
            return
        if not self._head_is_new:
            self._head_bytes += len(data)
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._is_too_large = True
            self.send_400_response("")
        elif self._head_due is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._reads_head = self._head_is_new = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is all there."""
        self._reads_head = False
        self._stop_waiting_for_head()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_LIMIT_BYTES:
            self._is_too_large = True
            raise ValueError("the head is too large")  # which the parser reports as it does what it cannot parse
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not a request, and end the connection."""
        self._stop_waiting_for_head()
        error = HeadTooLargeError(HEAD_LIMIT_BYTES) if self._is_too_large else MalformedRequestError("The request", msg)
        self.transport.write(Refusal(error).answer(request_id_of(self.headers or ()), closes=True))
        self.transport.close()

    def pause_writing(self) -> None:
        """More was sent than the client has read."""
        super().pause_writing()
        if self._reading_due is None:
            self._reading_due = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads on."""
        super().resume_writing()
        due, self._reading_due = self._reading_due, None
        if due is not None:
            due.cancel()

    def _await_head(self) -> None:
        self._head_due = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_waiting_for_head(self) -> None:
        due, self._head_due = self._head_due, None
        if due is not None:
            due.cancel()
