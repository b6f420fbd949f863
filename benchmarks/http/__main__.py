"""`python -m benchmarks.http`: the HTTP door beside bare FastAPI routes; a table, and the results as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.http.load import Measured, answer, get, measure, post
from benchmarks.http.pages import measure_pages
from benchmarks.http.server import server_process
from benchmarks.machine import machine
from execution.bench import own_server
from execution.bench.databases import fresh_database
from execution.cli.output import console
from execution.log import configure_logging
from execution.process import run

RESULTS = Path(__file__).parents[1] / "results" / "http.json"
CONNECTIONS = (1, 64)
ROUNDS = 3
NEW = post("/v1/executions", b'{"kind": "noop"}')


async def measure_server(name: str, url: str, seconds: float) -> dict[tuple[str, int], Measured]:
    """Each route over each number of connections."""
    async with server_process(name, url) as port:
        created = json.loads(await answer(port, NEW))["id"]
        requests = {"create": NEW, "get": get(f"/v1/executions/{created}"), "list": get("/v1/executions?limit=50")}
        found = {}
        for route, request in requests.items():
            for connections in CONNECTIONS:
                found[route, connections] = await measure(port, request, connections=connections, seconds=seconds)
        return found


async def measure_http(seconds: float, rounds: int, finished: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Both servers in turn, on databases of their own; of each figure the median round by requests per second."""
    results: dict[str, Any] = {"taken_at": datetime.now(UTC).isoformat(timespec="seconds")}
    measured: dict[str, list[dict[tuple[str, int], Measured]]] = {"service": [], "bare": []}
    async with own_server() as server:
        results["machine"] = await machine(server.url)
        for number in range(1, rounds + 1):
            for name, found in measured.items():
                say(f"{name}, round {number} of {rounds}")
                async with fresh_database(server.url) as url:
                    found.append(await measure_server(name, url, seconds))
        say(f"pages of {finished:,} finished executions")
        results["pages"] = await measure_pages(server, finished)
    results["routes"] = [
        _row(point, *(_median([one[point] for one in measured[name]]) for name in ("service", "bare")))
        for point in measured["service"][0]
    ]
    return results


def table(results: dict[str, Any]) -> Table:
    """A row for each route and number of connections."""
    shown = Table("route", "connections", "per second", "bare", "ratio", "p50 ms", "bare", "p99 ms", "bare")
    for row in results["routes"]:
        shown.add_row(*(value if isinstance(value, str) else f"{value:,}" for value in row.values()))
    return shown


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter and rougher: to see that it works")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file (default: %(default)s)")
    arguments = parser.parse_args()
    configure_logging("WARNING")
    seconds, rounds, finished = (0.5, 1, 100_000) if arguments.quick else (3.0, ROUNDS, 1_000_000)
    results = run(measure_http(seconds, rounds, finished, console(errors=True).print))
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console().print(table(results))
    console().print(results["pages"])
    console().print(f"results: {arguments.results}")


def _median(rounds: list[Measured]) -> Measured:
    return sorted(rounds, key=lambda one: one.per_second)[len(rounds) // 2]


def _row(point: tuple[str, int], service: Measured, bare: Measured) -> dict[str, Any]:
    route, connections = point
    return {
        "route": route,
        "connections": connections,
        "per_second": round(service.per_second),
        "bare_per_second": round(bare.per_second),
        "ratio": round(service.per_second / bare.per_second, 2),
        "p50_ms": round(service.p50_ms, 2),
        "bare_p50_ms": round(bare.p50_ms, 2),
        "p99_ms": round(service.p99_ms, 2),
        "bare_p99_ms": round(bare.p99_ms, 2),
    }


if __name__ == "__main__":
    main()
