"""The app on a socket: uvicorn on our loop, with httptools, started and stopped by us and not by signals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from execution.errors import SettingsError
from execution.shielded import to_its_end

STOP_SECONDS = 5
"""What requests get to end once the server is told to stop."""
KEEP_ALIVE_SECONDS = 65
"""How long an idle connection is kept: longer than the minute after which proxies give up theirs, so that it is they
who close, and never we in the moment of their next request."""
_BACKLOG = 2048


class HttpServer(uvicorn.Server):
    """One app on one socket."""

    def __init__(self, app: FastAPI, listening: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        super().__init__(config)
        self.url = _url_of(listening)
        self.ended = asyncio.Event()
        self._accepting = asyncio.Event()
        self._listening = listening
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once connections are served."""
        self._running = asyncio.create_task(self.serve([self._listening]), name="http server")
        self._running.add_done_callback(lambda _: self.ended.set())
        accepting = asyncio.create_task(self._accepting.wait())
        await asyncio.wait([self._running, accepting], return_when=asyncio.FIRST_COMPLETED)
        accepting.cancel()
        if self._running.done():
            self._running.result()

    async def stop(self) -> None:
        """Accept nothing more, let requests end, and cancel what has not ended in time; a second stop does nothing."""
        self.should_exit = True
        if self._running is not None:
            await self._running

    def hurry(self) -> None:
        """Do not wait for requests to end."""
        self.should_exit = self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and then say so."""
        await super().startup(sockets)
        self._accepting.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: what they mean is the process's affair."""
        yield


@asynccontextmanager
async def serving(app: FastAPI, host: str, port: int) -> AsyncIterator[HttpServer]:
    """Serve the app for the length of the block.

    Raises:
        SettingsError: nothing can listen on that address.
    """
    listening = _bind(host, port)
    try:
        server = HttpServer(app, listening)
        await server.start()
        try:
            yield server
        finally:
            await to_its_end(server.stop())
    finally:
        listening.close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError([f"cannot listen on {host} port {port}: {error.strerror or error}"]) from None


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
