"""Clients of the HTTP door that submit at a steady rate and see each execution end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

WAITS_SECONDS = 20
EVENTS_EACH = 5


@dataclass
class HttpLoad:
    """What the clients saw: when each of their executions was submitted and when its end was answered."""

    ended: list[tuple[float, float]] = field(default_factory=list)

    def slowest(self, since: float, until: float) -> float:
        """Seconds of the slowest of those that were submitted between the two."""
        return max(answered - asked for asked, answered in self.ended if since <= asked < until)

    def per_second(self, since: float, until: float) -> float:
        """How many have ended between the two."""
        return sum(since <= answered < until for _, answered in self.ended) / (until - since)


@asynccontextmanager
async def http_load(url: str, per_second: float) -> AsyncIterator[HttpLoad]:
    """Submit `noop` as long as the block; every answer that is not an ended execution is a failure of the block."""
    load = HttpLoad()
    stopped = asyncio.Event()

    async def submit() -> None:
        asked = time.time()
        headers = {"Prefer": f"wait={WAITS_SECONDS}"}
        answer = await client.post("/v1/executions", json={"kind": "noop"}, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "COMPLETED"
        load.ended.append((asked, time.time()))

    async def submit_steadily() -> None:
        began, number = time.monotonic(), 0
        while not stopped.is_set():
            number += 1
            group.create_task(submit())
            await asyncio.sleep(began + number / per_second - time.monotonic())

    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=url, timeout=WAITS_SECONDS + 5, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(submit_steadily())
        try:
            yield load
        finally:
            stopped.set()
