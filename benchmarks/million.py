"""What a million finished executions in the tables cost: throughput against that of empty tables, and deep pages."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import UUID

from benchmarks.finished import add_copies
from execution.bench.databases import fresh_database, on_fresh_database
from execution.bench.service_runs import per_second, service_with_worker
from execution.embedded import EmbeddedPostgres
from execution.service import ExecutionService

Say = Callable[[str], None]

PAGE_SIZE = 50
DEEP_PAGE = 1_000
WALK = 1_000
"""Executions per step on the way to the deep page by cursor."""
READS = 20


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How many finished executions, and how many are run beside them."""

    finished: int
    executions: int
    rounds: int


FULL = Extent(finished=1_000_000, executions=40_000, rounds=3)
QUICK = Extent(finished=100_000, executions=2_000, rounds=1)


async def measure_million(server: EmbeddedPostgres, extent: Extent, say: Say) -> dict[str, Any]:
    """Throughput per second and milliseconds per page, with the ratios they are for."""
    async with fresh_database(server.url, "bench_full") as full:
        say(f"{extent.finished:,} finished executions: writing them")
        async with service_with_worker(full) as service:
            original = await service.wait((await service.create_execution("noop")).id)
        await add_copies(full, original.id, extent.finished)
        say("pages of the list")
        async with service_with_worker(full) as service:
            pages = await _pages(service)
        throughput = await _throughput(server, full, extent, say)
    return {"finished": extent.finished} | throughput | pages


async def _throughput(server: EmbeddedPostgres, full: str, extent: Extent, say: Say) -> dict[str, float]:
    """Empty tables and full ones in turn, so that a drift of the machine meets both."""

    async def run(url: str) -> float:
        async with service_with_worker(url) as service:
            await per_second(service, extent.executions // 20)
            return await per_second(service, extent.executions)

    with_none, with_all = [], []
    for number in range(1, extent.rounds + 1):
        say(f"throughput beside none and beside {extent.finished:,}, round {number} of {extent.rounds}")
        with_none.append(await on_fresh_database(server.url, run))
        with_all.append(await run(full))
    figures = {"beside_none_per_second": median(with_none), "beside_all_per_second": median(with_all)}
    rounded = {name: round(value, 1) for name, value in figures.items()}
    return rounded | {"throughput_ratio": round(median(with_all) / median(with_none), 3)}


async def _pages(service: ExecutionService) -> dict[str, float]:
    """Page 1 and page 1,000, by number (with the total) and by cursor; as many executions are there."""
    last = await _last_before(service, PAGE_SIZE * (DEEP_PAGE - 1))

    async def numbered(page: int) -> None:
        items, _ = await service.list_executions({}, {"page": page, "page_size": PAGE_SIZE})
        assert len(items) == PAGE_SIZE

    async def by_cursor(before_id: UUID | None) -> None:
        items = await service.repository.list_after({}, before_id=before_id, limit=PAGE_SIZE)
        assert len(items) == PAGE_SIZE

    first_ms, deep_ms = await _both(lambda: numbered(1), lambda: numbered(DEEP_PAGE))
    first_cursor_ms, deep_cursor_ms = await _both(lambda: by_cursor(None), lambda: by_cursor(last))
    return {
        "page_1_ms": round(first_ms, 2),
        "page_1000_ms": round(deep_ms, 2),
        "page_ratio": round(deep_ms / first_ms, 3),
        "cursor_page_1_ms": round(first_cursor_ms, 2),
        "cursor_page_1000_ms": round(deep_cursor_ms, 2),
        "cursor_page_ratio": round(deep_cursor_ms / first_cursor_ms, 3),
    }


async def _last_before(service: ExecutionService, skipped: int) -> UUID:
    """Where a reader by cursor stands who has seen that many."""
    last: UUID | None = None
    for seen in range(0, skipped, WALK):
        limit = min(WALK, skipped - seen)
        last = (await service.repository.list_after({}, before_id=last, limit=limit))[-1].id
    assert last is not None
    return last


async def _both(first: Callable[[], Awaitable[None]], deep: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Medians of both in milliseconds, read in turn after one read that does not count."""
    await first()
    await deep()
    firsts, deeps = [], []
    for _ in range(READS):
        firsts.append(await _milliseconds(first))
        deeps.append(await _milliseconds(deep))
    return median(firsts), median(deeps)


async def _milliseconds(read: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await read()
    return (time.perf_counter() - started) * 1000
