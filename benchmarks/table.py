"""The results as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table

SERIES = {"workers": "worker processes", "in_flight": "in flight", "payload_bytes": "bytes of document"}


def tables(results: dict[str, Any]) -> Group:
    """The figures, and a row for each point of growth."""
    figures = results["machine"] | results["figures"] | results["million"] | results["steps"]
    return Group(_figures(figures), _growth(results["growth"]))


def _figures(figures: dict[str, Any]) -> Table:
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), value if isinstance(value, str) else f"{value:,}")
    return table


def _growth(growth: dict[str, list[dict[str, Any]]]) -> Table:
    table = Table("with", "per second", "service µs", "PostgreSQL µs", "WAL bytes", "others busy", "bottleneck")
    for series, points in growth.items():
        for point in points:
            table.add_row(
                f"{point['at']:,} {SERIES[series]}",
                f"{point['per_second']:,.0f}",
                f"{point['service_cpu_us']:,.0f}",
                f"{point['postgres_cpu_us']:,.0f}",
                f"{point['wal_bytes']:,}",
                f"{point['others_busy']:.2f}",
                point["bottleneck"],
            )
        table.add_section()
    return table
