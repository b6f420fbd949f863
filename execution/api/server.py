"""The app on a socket: uvicorn on our loop, with httptools, started and stopped by us and not by signals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from execution.api.door import Door
from execution.api.refusing_protocol import RefusingProtocol
from execution.errors import SettingsError
from execution.lifecycle import kept_running
from execution.waiting import LOOK_SECONDS

STOP_SECONDS = 5
"""What requests get to end once the server is told to stop."""
KEEP_ALIVE_SECONDS = 65
"""How long an idle connection is kept: longer than the minute after which proxies give up theirs, so that it is they
who close, and never we in the moment of their next request."""
_BACKLOG = 2048


class HttpServer:
    """One app on one socket."""

    def __init__(self, app: FastAPI, listening: socket.socket) -> None:
        self.url = _url_of(listening)
        self.ready = asyncio.Event()
        """Set once connections are served."""
        self._door: Door = app.state.door
        self._listening = listening
        self._server = _Uvicorn(app, self.ready)

    async def run(self) -> None:
        """Serve until `stop()` is called, then let requests end, and cancel what has not ended in time."""
        async with kept_running("metrics", self._door.metrics.run), kept_running("last answers", self._answer_at_last):
            await self._server.serve([self._listening])

    def stop(self) -> None:
        """Be ready no more and, after the shutdown delay, accept nothing more; `run()` returns when all has ended."""
        self._door.readiness.drain()
        asyncio.get_running_loop().call_later(self._door.settings.shutdown_delay_seconds, self._stop_accepting)

    def hurry(self) -> None:
        """Do not wait for requests to end."""
        self._stop_accepting()
        self._server.force_exit = True

    async def _answer_at_last(self) -> None:
        """Once nothing is accepted, tell those who wait for a PostgreSQL that is away: they would be cut off."""
        database = self._door.service.repository.db
        await self._door.closing.wait()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not await database.presence.answers():
                database.lanes.abandon()

    def _stop_accepting(self) -> None:
        self._door.closing.set()
        self._server.should_exit = True
        self._door.streams.close()


class _Uvicorn(uvicorn.Server):
    """Says when it is ready, and leaves signals alone: what they mean is the process's affair."""

    def __init__(self, app: FastAPI, ready: asyncio.Event) -> None:
        config = uvicorn.Config(
            app,
            http=RefusingProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket, for the length of the block.

    Raises:
        SettingsError: nothing can listen on that address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError([f"cannot listen on {host} port {port}: {error.strerror or error}"]) from None
    with listening:
        # What is accepted inherits it. asyncio's own loop sets it only where a socket's protocol is named, which Python
        # does for none that it accepts; without it an answer's second packet waits 40 ms for the client's receipt.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listening


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
