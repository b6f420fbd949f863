"""Load at a rate that does not depend on the answers, and a look from outside at what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import asyncpg

from execution.errors import OverloadedError
from execution.ids import new_id
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually

_TICK_SECONDS = 0.005
_LOOK_SECONDS = 0.1
WINDOW_SECONDS = 2.0
"""A throughput is measured over so long."""


class OfferedLoad:
    """Submissions at a fixed rate, whatever becomes of them: an open loop, as the outside world is.

    A client that has its answer goes on with what is due, and there is always one more client where all wait for
    answers. So what is refused in no time costs this process no client, which would be dearer than the refusal.

    It counts and keeps no ids: a minute of load would hold more of them than the service that is looked at has in use.
    """

    def __init__(self, submit: Callable[[UUID], Awaitable[object]], per_second: float) -> None:
        self._submit = submit
        self._per_second = per_second
        self._clients: set[asyncio.Task[None]] = set()
        self._due = 0
        self.offered = 0
        self.refused = 0
        self.acknowledged = 0

    async def run(self) -> None:
        """Offer until cancelled. What falls due while the loop is busy is offered at once afterwards."""
        began = time.monotonic()
        while True:
            self._due = int((time.monotonic() - began) * self._per_second)
            while self.offered < self._due:
                client = asyncio.create_task(self._client())
                self._clients.add(client)
                client.add_done_callback(self._gone)
                await asyncio.sleep(0)
            await asyncio.sleep(_TICK_SECONDS)

    async def answered(self) -> None:
        """Until every client has its answer; their failures are raised."""
        await asyncio.gather(*self._clients)

    def _gone(self, client: asyncio.Task[None]) -> None:
        if client.cancelled() or client.exception() is None:
            self._clients.discard(client)

    async def _client(self) -> None:
        while self.offered < self._due:
            self.offered += 1
            execution_id = new_id()
            try:
                await self._submit(execution_id)
            except OverloadedError:
                self.refused += 1
            else:
                self.acknowledged += 1


@asynccontextmanager
async def offered_load(submit: Callable[[UUID], Awaitable[object]], per_second: float) -> AsyncIterator[OfferedLoad]:
    """Offer as long as the block runs; at its end every client has its answer."""
    load = OfferedLoad(submit, per_second)
    async with _running(load.run(), "offered load"):
        yield load
    await load.answered()


class EndMeter:
    """Counts the ended executions of a database again and again, whether or not it is there at the moment."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._samples: deque[tuple[float, int]] = deque()

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await self._count_on_one_connection()
            await asyncio.sleep(_LOOK_SECONDS)

    def rate(self, since: float) -> float:
        """Ends per second over the latest window; 0 while it does not lie wholly after `since` (monotonic)."""
        later = [sample for sample in self._samples if sample[0] >= since]
        if not later or later[-1][0] - later[0][0] < WINDOW_SECONDS:
            return 0.0
        until, ended = later[-1]
        began, ended_before = next(one for one in reversed(later) if until - one[0] >= WINDOW_SECONDS)
        return (ended - ended_before) / (until - began)

    async def reaches(self, per_second: float, *, within: float) -> None:
        """Until the throughput of a window that begins now or later is as high; fails after `within` seconds."""
        began = time.monotonic()
        what = f"{per_second:.0f} executions per second, of {self.rate(began - WINDOW_SECONDS * 3):.0f} lately"
        await eventually(lambda: self.rate(began) >= per_second, within=within, what=what)

    async def _count_on_one_connection(self) -> None:
        connection: AnyConnection = await asyncpg.connect(self._url)
        try:
            while True:
                ended = await connection.fetchval("SELECT count(*) FROM executions WHERE completed_at IS NOT NULL")
                self._samples.append((time.monotonic(), ended))
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            connection.terminate()


@asynccontextmanager
async def end_meter(url: str) -> AsyncIterator[EndMeter]:
    """A meter that counts as long as the block runs."""
    meter = EndMeter(url)
    async with _running(meter.run(), "end meter"):
        yield meter


@asynccontextmanager
async def _running(work: Awaitable[None], name: str) -> AsyncIterator[None]:
    """Work beside the block; should it fail, the failure is raised at the block's end."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
