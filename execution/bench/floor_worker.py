"""The other process of the floor: `python -m execution.bench.floor_worker URL` claims and finishes when told to."""

from __future__ import annotations

import sys

from execution.bench.floor import claim_batch, connected, finish_batch
from execution.bench.floor_latency import ONE, TO_SUBMITTER, TO_WORKER, notified
from execution.ids import new_id
from execution.process import run


async def _work(url: str) -> None:
    """Until it is killed. The first notification says that it listens."""
    async with connected(url) as connection:
        worker_id = new_id()
        submitted = await notified(connection, TO_WORKER)
        while True:
            await connection.execute("SELECT pg_notify($1, '')", TO_SUBMITTER)
            await submitted.wait()
            submitted.clear()
            await finish_batch(connection, await claim_batch(connection, worker_id), worker_id, ONE)


if __name__ == "__main__":
    run(_work(sys.argv[1]))
