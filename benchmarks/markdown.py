"""The results as the Markdown tables of docs/performance.md, so that nobody copies figures by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.table import SERIES

_BESIDE_THE_FLOOR = {
    "no-op executions per second": ("noop_per_second", "noop_floor_per_second", "noop_ratio"),
    "the same with 3 progress events each": ("progress_per_second", "progress_floor_per_second", "progress_ratio"),
    "latency in one process, p50 in ms": ("idle_p50_ms", "idle_floor_p50_ms", "idle_p50_ratio"),
    "latency in one process, p99 in ms": ("idle_p99_ms", "idle_floor_p99_ms", "idle_p99_ratio"),
    "latency across two processes, p50 in ms": ("across_p50_ms", "across_floor_p50_ms", "across_p50_ratio"),
    "latency across two processes, p99 in ms": ("across_p99_ms", "across_floor_p99_ms", "across_p99_ratio"),
}
_FULL_AND_EMPTY = {
    "no-op executions per second, beside all and beside none": (
        "beside_all_per_second",
        "beside_none_per_second",
        "throughput_ratio",
    ),
    "page 1,000 and page 1 by cursor, ms": ("cursor_page_1000_ms", "cursor_page_1_ms", "cursor_page_ratio"),
    "page 1,000 and page 1 by number, with the total, ms": ("page_1000_ms", "page_1_ms", "page_ratio"),
}


def markdown(results: dict[str, Any]) -> str:
    """The three tables: beside the floor, beside finished executions, growth."""
    finished = f"beside {results['million']['finished']:,} finished executions"
    lines = [
        *_compared("", ("service", "floor"), _BESIDE_THE_FLOOR, results["figures"]),
        "",
        *_compared(finished, ("first", "second"), _FULL_AND_EMPTY, results["million"]),
        "",
        *_growth(results["growth"]),
        "",
    ]
    return "\n".join(lines)


def _compared(
    title: str, sides: tuple[str, str], rows: dict[str, tuple[str, str, str]], figures: dict[str, Any]
) -> Iterator[str]:
    yield f"| {title} | {sides[0]} | {sides[1]} | ratio |"
    yield "|---|---|---|---|"
    for name, (first, second, ratio) in rows.items():
        yield f"| {name} | {_number(figures[first])} | {_number(figures[second])} | {figures[ratio]:.2f} |"


def _growth(growth: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield "| | per second | service, µs each | PostgreSQL, µs each | WAL, bytes each | bottleneck |"
    yield "|---|---|---|---|---|---|"
    for series, points in growth.items():
        for point in points:
            cells = [f"{point[name]:,.0f}" for name in ("per_second", "service_cpu_us", "postgres_cpu_us", "wal_bytes")]
            yield f"| {point['at']:,} {SERIES[series]} | {' | '.join(cells)} | {point['bottleneck']} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
