"""`python -m benchmarks`: everything that is measured; a table, the results as JSON and a chart of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import growth, million, plans
from benchmarks.chart import chart
from benchmarks.machine import machine
from benchmarks.markdown import markdown
from benchmarks.steps import measure_steps
from benchmarks.table import tables
from execution import bench
from execution.cli.output import console
from execution.log import configure_logging
from execution.process import run

RESULTS = Path(__file__).parent / "results" / "latest.json"


async def measure_all(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """The figures of `execution bench`, a million finished executions, and growth, on one server; and steps."""
    async with bench.own_server() as server:
        return {
            "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "steps": measure_steps() | await plans.measure_plans(server, plans.QUICK if quick else plans.FULL, say),
            "machine": await machine(server.url),
            "figures": (await bench.measure(server, bench.QUICK if quick else bench.FULL, say)).to_json(),
            "million": await million.measure_million(server, million.QUICK if quick else million.FULL, say),
            "growth": await growth.measure_growth(server, growth.QUICK if quick else growth.FULL, say),
        }


def main() -> None:
    """Measure, or only draw what was measured before."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter and rougher: to see that it works")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, show the results that are there")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file (default: %(default)s)")
    parser.add_argument("--chart", type=Path, help="the SVG file (default: beside the results)")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/performance.md has them")
    arguments = parser.parse_args()
    if not arguments.redraw:
        configure_logging("WARNING")
        results = run(measure_all(quick=arguments.quick, say=console(errors=True).print))
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    results = json.loads(arguments.results.read_text(encoding="utf-8"))
    path = arguments.chart or arguments.results.with_suffix(".svg")
    path.write_text(chart(results), encoding="utf-8")
    console().print(markdown(results) if arguments.markdown else tables(results))
    console().print(f"results: {arguments.results}\nchart: {path}")


if __name__ == "__main__":
    main()
