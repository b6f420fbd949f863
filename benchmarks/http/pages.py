"""Page 1 and page 1,000 of the list over HTTP, by cursor, with a million finished executions in the tables."""

from __future__ import annotations

import json
import time
from statistics import quantiles
from typing import Any

from benchmarks.finished import add_copies
from benchmarks.http.load import answer, get
from benchmarks.http.server import server_process
from execution.bench.databases import fresh_database
from execution.bench.service_runs import service_with_worker
from execution.embedded import EmbeddedPostgres

PAGE_SIZE = 50
DEEP_PAGE = 1_000
READS = 200


async def measure_pages(server: EmbeddedPostgres, finished: int) -> dict[str, Any]:
    """Milliseconds of both pages, read in turn, and the ratio that they are for; of fewer the deepest page."""
    deep_page = min(DEEP_PAGE, finished // PAGE_SIZE)
    async with fresh_database(server.url, "bench_pages") as url:
        async with service_with_worker(url) as service:
            original = await service.wait((await service.create_execution("noop")).id)
        await add_copies(url, original.id, finished)
        async with server_process("service", url) as port:
            first = f"/v1/executions?limit={PAGE_SIZE}"
            deep = await _page(port, first, deep_page)
            times: dict[str, list[float]] = {first: [], deep: []}
            for _ in range(READS):
                for path, taken in times.items():
                    began = time.perf_counter()
                    page = json.loads(await answer(port, get(path)))
                    taken.append((time.perf_counter() - began) * 1000)
                    assert len(page["items"]) == PAGE_SIZE
    first_p95, deep_p95 = (quantiles(taken, n=20)[18] for taken in times.values())
    return {
        "finished": finished,
        "page_1_p95_ms": round(first_p95, 2),
        "deep_page": deep_page,
        "deep_page_p95_ms": round(deep_p95, 2),
        "page_ratio": round(deep_p95 / first_p95, 2),
    }


async def _page(port: int, path: str, number: int) -> str:
    """The path of that page, found as a client finds it: by the cursor of the one before."""
    first = path
    for _ in range(number - 1):
        cursor = json.loads(await answer(port, get(path)))["next_cursor"]
        path = f"{first}&cursor={cursor}"
    return path
