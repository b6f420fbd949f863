"""When events reach a consumer, beside when they happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from events.codec import EventCodec
from tests.support.kafka import consumer


@dataclass
class Deliveries:
    """Seconds since 1970 at which each event happened, by PostgreSQL's clock, and at which it arrived."""

    times: list[tuple[float, float]] = field(default_factory=list)

    def delays(self, since: float, until: float) -> Sequence[float]:
        """Of those that happened between the two, in seconds."""
        return [arrived - happened for happened, arrived in self.times if since <= happened < until]


@asynccontextmanager
async def following(servers: str, topic: str) -> AsyncIterator[Deliveries]:
    """What arrives on an existing topic as long as the block."""
    deliveries, codec = Deliveries(), EventCodec()

    async def follow() -> None:
        while True:
            for records in (await reader.getmany(timeout_ms=500)).values():
                arrived = time.time()
                for record in records:
                    event = codec.decode(record.value, record.headers)
                    assert event.time is not None
                    deliveries.times.append((event.time.timestamp(), arrived))

    async with consumer(servers, topic) as reader:
        task = asyncio.create_task(follow(), name="deliveries")
        try:
            yield deliveries
        finally:
            task.cancel()
            await asyncio.wait([task])
