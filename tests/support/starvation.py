"""How long processes were ready to run and had no processor: what other work on the machine adds to every delay.

Linux tells it of each process's first thread, on which an event loop runs. So a bound of time can hold on a busy
machine, too: as one on what took so long although there was a processor for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tests.support.stored import AnyConnection

_LOOK_AGAIN_SECONDS = 0.05


class Starvation:
    """Looks at some processes of this machine again and again."""

    def __init__(self, pids: Collection[int]) -> None:
        self._pids = pids
        self._looks: list[tuple[float, dict[int, int]]] = []
        """When, and for how many nanoseconds each had waited by then."""

    def look(self) -> None:
        """Take note of how long each has waited."""
        waited = {}
        for pid in self._pids:
            with suppress(OSError):  # it has ended, or the system does not tell
                waited[pid] = int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1])
        self._looks.append((time.time(), waited))

    def seconds(self, since: datetime, until: datetime) -> float:
        """How long one of them at least had to wait between two times: where several did at once, it counts once."""
        return sum(
            min(ended - max(began, since.timestamp()), _longest_wait(before, after))
            for (began, before), (ended, after) in pairwise(self._looks)
            if ended > since.timestamp() and began < until.timestamp()
        )


def _longest_wait(before: dict[int, int], after: dict[int, int]) -> float:
    return max((waited - before.get(pid, waited) for pid, waited in after.items()), default=0) / 1e9


@asynccontextmanager
async def starvation(pids: Collection[int]) -> AsyncIterator[Starvation]:
    """Look on as long as the block runs."""
    seen = Starvation(pids)
    seen.look()
    looking = asyncio.create_task(_look_on(seen))
    try:
        yield seen
    finally:
        looking.cancel()
        seen.look()


async def sessions(sql: AnyConnection) -> list[int]:
    """The processes that serve this database."""
    rows = await sql.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    return [row["pid"] for row in rows]


async def _look_on(seen: Starvation) -> None:
    while True:
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        seen.look()
