"""Results as they could be measured: values of the usual size, and every bottleneck there is."""

from __future__ import annotations

from typing import Any

CAUSES = [
    "all processors",
    "Python in the process of submitters and worker",
    "Python in the process of submitters",
    "Python in the process of worker 1",
    "one PostgreSQL process",
    "other programs",
    "writing and syncing the WAL",
    "waiting: round trips one after another",
]
_PER_SECOND = ("noop_per_second", "noop_floor_per_second", "progress_per_second", "progress_floor_per_second")
_LATENCIES = ("idle_p50_ms", "idle_floor_p50_ms", "across_p50_ms", "across_floor_p50_ms")
_SLOWEST = ("idle_p99_ms", "idle_floor_p99_ms", "across_p99_ms", "across_floor_p99_ms")
_RATIOS = ("noop_ratio", "progress_ratio", "idle_p50_ratio", "idle_p99_ratio", "across_p50_ratio", "across_p99_ratio")
_PAGES = ("page_1_ms", "page_1000_ms", "page_ratio", "cursor_page_1_ms", "cursor_page_1000_ms", "cursor_page_ratio")
_BESIDE = ("beside_none_per_second", "beside_all_per_second", "throughput_ratio")


def results() -> dict[str, Any]:
    """As `python -m benchmarks` writes them."""
    return {
        "taken_at": "2026-01-02T03:04:05+00:00",
        "machine": {"processors": 2, "processor": "Some & Sons <3 GHz>", "python": "3.11.7", "postgresql": "18.4"},
        "figures": dict.fromkeys(_PER_SECOND, 23_456.7)
        | dict.fromkeys(_LATENCIES, 1.84)
        | dict.fromkeys(_SLOWEST, 4.56)
        | dict.fromkeys(_RATIOS, 0.62),
        "million": {"finished": 1_000_000} | dict.fromkeys(_PAGES, 1.1) | dict.fromkeys(_BESIDE, 0.98),
        "steps": {"step_bare_us": 0.05, "step_executor_us": 5.43, "step_overhead_us": 5.38},
        "growth": {
            "in_flight": [_point(2**power) for power in range(10)],
            "workers": [_point(at) for at in (3, 5, 6)],
            "payload_bytes": [_point(at) for at in (7, 10_241, 204_802)],
        },
    }


def _point(at: int) -> dict[str, Any]:
    return {
        "at": at,
        "per_second": 12_345.6 + at,
        "service_cpu_us": 101.4,
        "postgres_cpu_us": 71.6,
        "wal_bytes": 3_900,
        "others_busy": 0.1,
        "bottleneck": CAUSES[at % len(CAUSES)],
    }
