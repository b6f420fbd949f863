"""`execution bench`."""

from __future__ import annotations

from rich.table import Table

from execution.bench import FULL, QUICK, measure, own_server
from execution.cli.output import answer, console
from execution.domain.execution import JsonObject
from execution.log import configure_logging


async def measure_machine(*, quick: bool, as_json: bool) -> None:
    """Measure the service and its floor on a database of their own, and show the figures."""
    configure_logging("WARNING")
    progress = console(errors=True)
    async with own_server() as server:
        figures = await measure(server, QUICK if quick else FULL, progress.print)
    document = figures.to_json()
    answer(document, _table(document), as_json=as_json)


def _table(figures: JsonObject) -> Table:
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    return table
