"""A server of event streams in a process of its own: `python -m tests.support.stream_server`.

Settings come from the environment. Answers each line on its standard input with one of JSON on its standard output:
what it uses and what it has open. Ends with its standard input, or when it is told to by SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import uvloop

from execution.api.app import create_app
from execution.api.server import HttpServer, bound
from execution.settings import Settings
from execution.wiring import open_service
from tests.support.service import PATIENCE
from tests.support.worker_process import REPOSITORY, environment


class StreamServer:
    """The test's handle on such a process."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def report(self) -> dict[str, int]:
        """`rss` in bytes, and the `streams` that are open."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        return dict(await _line(self.process))

    async def terminated(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def stream_server(database_url: str, **changes: Any) -> AsyncIterator[StreamServer]:
    """Start one, ready to serve; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.stream_server",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
        env=environment(database_url, log_level="WARNING", **changes),
        start_new_session=True,
    )
    try:
        yield StreamServer(process, (await _line(process))["url"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _line(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        return json.loads(await process.stdout.readline())


async def _main() -> None:
    async with open_service(Settings.load()) as service:
        app = create_app(service)
        with bound("127.0.0.1", 0) as listening:
            server = HttpServer(app, listening)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
            running = asyncio.create_task(server.run())
            await server.ready.wait()
            print(json.dumps({"url": server.url}), flush=True)
            answering = asyncio.create_task(_answer(server, app.state.door.streams))
            await running
            answering.cancel()


async def _answer(server: HttpServer, streams: Any) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        gc.collect()
        print(json.dumps({"rss": psutil.Process().memory_info().rss, "streams": len(streams)}), flush=True)
    server.stop()


if __name__ == "__main__":
    uvloop.run(_main())
