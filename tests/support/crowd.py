"""Clients that submit executions as fast as they are answered, from a process of their own.

As a program, `python -m tests.support.crowd URL CLIENTS SECONDS PAUSE`: prints what they saw as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import cast
from urllib.parse import urlsplit

import uvloop

from tests.support.service import PATIENCE
from tests.support.worker_process import REPOSITORY

WARM_UP_SECONDS = 0.5
_BODY = b'{"kind":"noop"}'
_REQUEST = (
    b"POST /v1/executions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a crowd was answered after its warm-up. Times are medians, in milliseconds."""

    accepted_per_second: float
    accepted_ms: float
    refused_per_second: float
    refused_ms: float
    connections: int
    """Opened in all, the first ones included."""
    others: list[int]
    """Statuses that are neither 202 nor 503."""


async def crowd(url: str, clients: int, *, seconds: float, pause: float = 0.05) -> Seen:
    """Let so many clients loose on a server; who is refused waits for `pause` seconds, whatever Retry-After says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.crowd", url, str(clients), str(seconds), str(pause)),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    try:
        async with asyncio.timeout(WARM_UP_SECONDS + seconds + PATIENCE):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Seen(**json.loads(said))


class _Crowd:
    """What its clients share: where they go, and what they were answered."""

    def __init__(self, url: str, pause: float) -> None:
        address = urlsplit(url)
        assert address.hostname
        assert address.port
        self.host, self.port, self.pause = address.hostname, address.port, pause
        self.loop = asyncio.get_running_loop()
        self.connections = 0
        self.took: dict[int, list[float]] = {}
        self._connecting: set[asyncio.Task[object]] = set()

    def connect(self) -> None:
        """Let one more client come."""
        self.connections += 1
        task: asyncio.Task[object] = self.loop.create_task(
            self.loop.create_connection(lambda: _Client(self), self.host, self.port)
        )
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def seen(self, seconds: float) -> Seen:
        accepted, refused = self.took.get(202, []), self.took.get(503, [])
        return Seen(
            accepted_per_second=len(accepted) / seconds,
            accepted_ms=_median_ms(accepted),
            refused_per_second=len(refused) / seconds,
            refused_ms=_median_ms(refused),
            connections=self.connections,
            others=[status for status in self.took if status not in (202, 503)],
        )


class _Client(asyncio.Protocol):
    """One request after the other, on one connection while it is kept: so cheap that the server is what is measured."""

    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        self._answer = b""
        self._is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        if not blank or len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return
        self._answer = b""
        self._is_waiting = False
        status = int(head[9:12])
        self._crowd.took.setdefault(status, []).append(time.perf_counter() - self._sent_at)
        if b"connection: close" in head.lower():
            self._transport.close()
        elif status == 503:
            self._crowd.loop.call_later(self._crowd.pause, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_waiting:
            self._crowd.took.setdefault(0, []).append(0.0)
        self._crowd.loop.call_later(self._crowd.pause, self._crowd.connect)

    def _send(self) -> None:
        if not self._transport.is_closing():
            self._is_waiting = True
            self._sent_at = time.perf_counter()
            self._transport.write(_REQUEST)


def _median_ms(seconds: list[float]) -> float:
    return median(seconds) * 1000 if seconds else 0.0


async def _main(url: str, clients: str, seconds: str, pause: str) -> None:
    crowd = _Crowd(url, float(pause))
    for _ in range(int(clients)):
        crowd.connect()
    await asyncio.sleep(WARM_UP_SECONDS)
    crowd.took.clear()
    began = time.perf_counter()
    await asyncio.sleep(float(seconds))
    print(json.dumps(asdict(crowd.seen(time.perf_counter() - began))), flush=True)


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
