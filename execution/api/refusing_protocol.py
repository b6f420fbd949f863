"""Refusals at the socket: a request for which there is no room is answered as soon as its head has been read, before
there is a task for it, or anything of the app has seen it.

Who is refused is slowed down by TCP and not by our loop: its connection is not read for a moment. The small body of a
refused request is read and forgotten, and its connection kept, because a new one would cost more. For the sake of a
large body, of one of unknown length, or of one that the client would send only if it were told to, it is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from execution.api.access_log import UNMATCHED, counted_method, request_id_of
from execution.api.door import Door
from execution.api.protocol import BoundedProtocol
from execution.api.refusal import Refusal
from execution.api.room import ALWAYS_ANSWERED

SKIPPED_LIMIT_BYTES = 65_536
"""Longest body that is read and forgotten."""
BODY_SECONDS = 10.0
"""What it may take to arrive."""
FAREWELL_SECONDS = 1.0
"""How long a connection that is given up stays open, unread: to close it on bytes nobody has read would tell the client
of an error, maybe before it has read its answer."""
SPARE_CONNECTIONS = 100
"""How many connections beyond the limit are told so; on these, too, one may ask how the process is."""


class RefusingProtocol(BoundedProtocol):
    """One connection. A request that is let in pays for the look at the room with a microsecond or two."""

    _is_excess = False
    _skips_body = False
    """Is the body of a refused request still under way?"""
    _body_due: asyncio.TimerHandle | None = None
    _is_kept = True
    """Does the connection outlive the refusal?"""
    _has_left = False
    """Has its last answer been sent?"""
    _resting: asyncio.TimerHandle | None = None
    """Until then nothing is read or begun."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        door: Door = cast(FastAPI, config.app).state.door
        self._rooms = door.rooms
        self._tally = door.metrics.requests

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected, maybe one too many."""
        super().connection_made(transport)
        self._tally.connections += 1
        excess = len(self.connections) - self._rooms.connections
        self._is_excess = excess > 0
        if excess > SPARE_CONNECTIONS:
            self._tally.cut_connections += 1
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._tally.connections -= 1
        self._stop_skipping()
        self._stop_resting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; the rest of a refused request is waited for, but not for ever."""
        super().data_received(data)
        if self._skips_body and self._body_due is None:
            self._body_due = self.loop.call_later(BODY_SECONDS, self.transport.abort)

    def on_message_complete(self) -> None:
        """A request is all there, with its body."""
        super().on_message_complete()
        if self._skips_body:
            self._stop_skipping()
            self._end_refusal()

    def send_400_response(self, msg: str) -> None:
        """What came is no request; if it was to be the body of a refused one, that has been answered."""
        if not self._has_left:
            super().send_400_response(msg)

    def shutdown(self) -> None:
        """The server stops: who rests is waited for no more."""
        if self._resting is not None:
            self.transport.close()
        else:
            super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """It is a request's turn: its head is there, and what came before it on this connection is answered."""
        if self._resting is not None or self.transport.is_closing():
            self.pipeline.appendleft((cycle, app))
            return
        scope = cycle.scope
        if scope["path"] in ALWAYS_ANSWERED:
            cycle.keep_alive = cycle.keep_alive and not self._is_excess
        elif self._is_excess:
            self._refuse(cycle, self._rooms.crowded)
            return
        else:
            room = self._rooms.room_for(scope["headers"])
            place = room.enter()
            if place is None:
                self._refuse(cycle, room.refusal)
                return
            scope["state"]["place"] = place
        self._rooms.turnstile.enter(partial(super()._start_asgi_task, cycle, app), self.loop)

    def _refuse(self, cycle: RequestResponseCycle, refusal: Refusal) -> None:
        headers, method = list(cycle.scope["headers"]), cycle.scope["method"]
        is_short = _has_short_body(headers)
        self._is_kept = cycle.keep_alive and is_short and not self._is_excess
        answer = refusal.answer(
            request_id_of(headers),
            closes=not self._is_kept,
            has_body=method != "HEAD",
            retry_after=self._rooms.rest_seconds,
        )
        self.transport.write(answer)
        self._tally.refuse(counted_method(method), UNMATCHED, HTTPStatus.SERVICE_UNAVAILABLE, refusal.size)
        self._rooms.refusals.note(self.loop)
        cycle.response_complete = True  # so that its body is skipped
        if not is_short:
            self._bid_farewell()
        elif cycle.more_body:
            self._skips_body = True
        else:
            self._end_refusal()

    def _end_refusal(self) -> None:
        if not self._is_kept:
            self.transport.close()
            return
        self._rest(self._rooms.rest_seconds, self._go_on)

    def _bid_farewell(self) -> None:
        self._has_left = True
        self.transport.write_eof()
        self._rest(FAREWELL_SECONDS, self.transport.abort)

    def _rest(self, seconds: float, then: Callable[[], None]) -> None:
        self.flow.pause_reading()
        self._rooms.resting += 1
        self._resting = self.loop.call_later(seconds, then)

    def _stop_skipping(self) -> None:
        self._skips_body = False
        due, self._body_due = self._body_due, None
        if due is not None:
            due.cancel()

    def _go_on(self) -> None:
        self._stop_resting()
        self.on_response_complete()

    def _stop_resting(self) -> None:
        resting, self._resting = self._resting, None
        if resting is not None:
            resting.cancel()
            self._rooms.resting -= 1


def _has_short_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"content-length" and int(value) > SKIPPED_LIMIT_BYTES:
            return False
        if name in (b"transfer-encoding", b"expect"):
            return False
    return True
