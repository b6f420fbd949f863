"""The commands of those who operate the service, as declared; what they do is in the modules they import.

Those imports are inside the commands, so that `--help` does not wait for the database driver.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from execution.cli.options import AsJson
from execution.cli.running import run


def add_operator_commands(app: typer.Typer) -> None:
    """Declare them, in the order of `--help`."""
    for command in (demo, worker, migrate, doctor, bench):
        app.command()(command)


def demo(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="A folder to work on.")] = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Show, on real input, that the service keeps its promises."""
    from execution.cli.demonstrating import demonstrate

    run(demonstrate(path, as_json=as_json), as_json=as_json)


def worker(
    *,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Executions at once.")] = None,
    kinds: Annotated[str | None, typer.Option(metavar="KIND,...", help="Only these kinds.")] = None,
    handlers: Annotated[str | None, typer.Option(metavar="MODULE,...", help="Modules with handlers.")] = None,
    drain_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="What running executions get to end on a stop.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run executions until a stop: SIGTERM or Ctrl-C drains, a second one ends at once."""
    from execution.cli.working import work

    overrides = {
        "worker_concurrency": concurrency,
        "worker_kinds": kinds,
        "handlers": handlers,
        "drain_timeout_seconds": drain_timeout,
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    run(work(given, as_json=as_json), as_json=as_json)


def migrate(
    *, revision: Annotated[str, typer.Option(help="The revision to reach.")] = "head", as_json: AsJson = False
) -> None:
    """Bring the database's schema up to date."""
    from execution.cli.migrating import bring_up_to_date

    run(bring_up_to_date(revision, as_json=as_json), as_json=as_json)


def doctor(*, as_json: AsJson = False) -> None:
    """Check settings, database, schema, workers, backlog, clock and disk, and say what to do."""
    from execution.cli.checkup import check_up

    run(check_up(as_json=as_json), as_json=as_json)


def bench(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A shorter, rougher measurement.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure this machine."""
    from execution.cli.measuring import measure_machine

    run(measure_machine(quick=quick, as_json=as_json), as_json=as_json)
