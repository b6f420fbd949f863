"""The HTTP door on a socket: in the test's own process, or in one of its own, to be killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from execution.api.server import HttpServer, bound
from tests.support.nursery import NursedProcess, nursery
from tests.support.service import PATIENCE
from tests.support.worker_process import environment


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[HttpServer]:
    """The app served by uvicorn on a free port of this machine; its base is `url`."""
    with bound("127.0.0.1", 0) as listening:
        server = HttpServer(app, listening)
        running = asyncio.create_task(server.run(), name="server under test")
        async with asyncio.timeout(PATIENCE):
            await server.ready.wait()
        yield server
        server.stop()
        async with asyncio.timeout(PATIENCE):
            await running


class ServerProcess:
    """The test's handle on a process that runs `execution serve`."""

    def __init__(self, process: NursedProcess, url: str) -> None:
        self.process = process
        self.url = url

    async def kill(self) -> None:
        """As the system does it: nothing of the process runs afterwards."""
        self.process.kill()
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()


@asynccontextmanager
async def server_process(database_url: str, *options: str, **changes: Any) -> AsyncIterator[ServerProcess]:
    """Start one, ready to serve; killed at the end if it still runs."""
    arguments = ["serve", "--port", "0", "--json", *options]
    started = await nursery().start("execution.cli", arguments, environment(database_url, **changes))
    try:
        async with asyncio.timeout(PATIENCE):
            ready = await started.stdout.readline()
        yield ServerProcess(started, json.loads(ready)["url"])
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()
