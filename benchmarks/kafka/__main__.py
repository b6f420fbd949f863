"""`python -m benchmarks.kafka`: the relay beside a bare Kafka client; a table, and the results as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.kafka.broker import own_broker
from benchmarks.kafka.effect import measure_effect
from benchmarks.kafka.extent import FULL, QUICK, Extent
from benchmarks.kafka.lag import PER_SECOND, measure_lag
from benchmarks.kafka.latency import latency_json, measure_latency
from benchmarks.kafka.throughput import measure_throughput, throughput_json
from benchmarks.machine import machine
from execution.bench import own_server
from execution.cli.output import console
from execution.log import configure_logging
from execution.process import run

RESULTS = Path(__file__).parents[1] / "results" / "kafka.json"
MEASURES = ("throughput", "latency", "lag", "effect")


async def measure_kafka(extent: Extent, only: Collection[str], say: Callable[[str], None]) -> dict[str, Any]:
    """What was asked for, on a server and a broker of its own."""
    results: dict[str, Any] = {"taken_at": datetime.now(UTC).isoformat(timespec="seconds")}
    async with own_server(track_commit_timestamp="on") as server, own_broker() as broker:
        servers = broker.servers
        results["machine"] = await machine(server.url)
        if "throughput" in only:
            say(f"publishing {extent.published:,} executions' events, by the relay and by a bare producer")
            results["throughput"] = throughput_json(await measure_throughput(server, servers, extent))
        if "latency" in only:
            say(f"latency at 1,000 events per second, for {extent.paced_seconds:.0f} s each")
            results["latency"] = latency_json(await measure_latency(server, servers, extent.paced_seconds))
        if "lag" in only:
            say(f"lag beside {PER_SECOND:,} executions per second, for {extent.steady_seconds:.0f} s")
            results["lag"] = (await measure_lag(server, servers, extent.steady_seconds)).to_json()
        if "effect" in only:
            say(f"{extent.executions:,} executions beside a relay and without one, {extent.pairs} times")
            results["effect"] = (await measure_effect(server, servers, extent, broker.pid)).to_json()
    return results


def table(results: dict[str, Any]) -> Table:
    """Every figure in a row."""
    shown = Table("measure", "figure", "value")
    for measure in MEASURES:
        for name, value in results.get(measure, {}).items():
            text = ", ".join(f"{one:,}" for one in value) if isinstance(value, list) else f"{value:,}"
            shown.add_row(measure, name.replace("_", " "), text)
    return shown


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kafka", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter and rougher: to see that it works")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES, help="not all of them")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file (default: %(default)s)")
    arguments = parser.parse_args()
    configure_logging("WARNING")
    extent = QUICK if arguments.quick else FULL
    results = run(measure_kafka(extent, arguments.only, console(errors=True).print))
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console().print(table(results))
    console().print(f"results: {arguments.results}")


if __name__ == "__main__":
    main()
