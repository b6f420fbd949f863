"""A consumer in a process of its own, that notes when each event arrives.

`python -m benchmarks.kafka.arrivals SERVERS TOPIC COUNT` says one line when it reads, and after so many events another
one: a JSON object of the time of each, by its id.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson

from benchmarks.kafka.bare import LONGEST_SECONDS, bare_consumer
from execution.process import run

ID = "ce_id"
SECONDS_TO_START = 30.0
_LINE_LIMIT = 64 * 1024 * 1024


@asynccontextmanager
async def arrivals(servers: str, topic: str, count: int) -> AsyncIterator[Callable[[], Awaitable[dict[str, float]]]]:
    """What waits for so many events, and tells when each arrived, in seconds since 1970."""
    consumer = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.kafka.arrivals", servers, topic, str(count)),
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
    )

    async def said(within: float) -> bytes:
        assert consumer.stdout is not None
        async with asyncio.timeout(within):
            line = await consumer.stdout.readline()
        if not line:
            raise RuntimeError("the consumer has ended before it was to")
        return line

    async def all_of_them() -> dict[str, float]:
        times: dict[str, float] = orjson.loads(await said(LONGEST_SECONDS))
        return times

    try:
        await said(SECONDS_TO_START)
        yield all_of_them
    finally:
        if consumer.returncode is None:
            consumer.kill()
        await consumer.communicate()


async def _note(servers: str, topic: str, count: int) -> None:
    times: dict[str, float] = {}
    async with bare_consumer(servers, topic) as consumer, asyncio.timeout(2 * LONGEST_SECONDS):
        for partition in consumer.assignment():
            await consumer.position(partition)
        _say(b"ready")
        while len(times) < count:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                now = time.time()
                times |= {dict(record.headers)[ID].decode(): now for record in records}
    _say(orjson.dumps(times))


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    run(_note(sys.argv[1], sys.argv[2], int(sys.argv[3])))
