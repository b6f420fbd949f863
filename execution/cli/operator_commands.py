"""The commands of those who operate the service, as declared; what they do is in the modules they import.

Those imports are inside the commands, so that `--help` does not wait for the database driver.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from execution.cli.options import TO_OPERATE, AsJson, Concurrency, DrainTimeout, Handlers, OnlyKinds
from execution.cli.running import run


def add_operator_commands(app: typer.Typer) -> None:
    """Declare them, in the order of `--help`."""
    for command in (demo, serve, worker, relay, commands, model_service, migrate, settings, asyncapi, doctor, bench):
        app.command(rich_help_panel=TO_OPERATE)(command)


def demo(
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="A folder to work on.")] = Path(),
    *,
    kafka: Annotated[bool, typer.Option("--kafka", help="Publish to the brokers of EXECUTION_KAFKA_*, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show, on real input, that the service keeps its promises."""
    from execution.cli.demonstrating import demonstrate

    run(demonstrate(path, over_kafka=kafka, as_json=as_json), as_json=as_json)


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 0: a free one.")] = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Run no executions here.")] = False,
    no_relay: Annotated[bool, typer.Option("--no-relay", help="Publish no events from here.")] = False,
    no_commands: Annotated[bool, typer.Option("--no-commands", help="Carry out no commands from Kafka.")] = False,
    concurrency: Concurrency = None,
    kinds: OnlyKinds = None,
    handlers: Handlers = None,
    drain_timeout: DrainTimeout = None,
    as_json: AsJson = False,
) -> None:
    """Serve HTTP, run executions and publish events until a stop: SIGTERM or Ctrl-C drains, a second one hurries."""
    from execution.cli.serving import serve as serve_http

    overrides = _given(
        host=host,
        port=port,
        worker_concurrency=concurrency,
        worker_kinds=kinds,
        handlers=handlers,
        drain_timeout_seconds=drain_timeout,
    )
    parts = {"worker": not no_worker, "relay": not no_relay, "commands": not no_commands}
    run(serve_http(overrides, **parts, as_json=as_json), as_json=as_json)


def worker(
    *,
    concurrency: Concurrency = None,
    kinds: OnlyKinds = None,
    handlers: Handlers = None,
    drain_timeout: DrainTimeout = None,
    as_json: AsJson = False,
) -> None:
    """Run executions until a stop: SIGTERM or Ctrl-C drains, a second one ends at once."""
    from execution.cli.working import work

    overrides = _given(
        worker_concurrency=concurrency, worker_kinds=kinds, handlers=handlers, drain_timeout_seconds=drain_timeout
    )
    run(work(overrides, as_json=as_json), as_json=as_json)


def relay(*, as_json: AsJson = False) -> None:
    """Publish events to Kafka until a stop; as many as there are, one at a time does the work."""
    from execution.cli.relaying import relay as relay_events

    run(relay_events({}, as_json=as_json), as_json=as_json)


def commands(*, handlers: Handlers = None, as_json: AsJson = False) -> None:
    """Carry out commands from Kafka until a stop; as many as there are share the work."""
    from execution.cli.commanding import command

    run(command(_given(handlers=handlers), as_json=as_json), as_json=as_json)


def model_service(*, as_json: AsJson = False) -> None:
    """Answer model calls over Kafka until a stop; as many as there are share them."""
    from execution.cli.answering import answer_model_calls

    run(answer_model_calls({}, as_json=as_json), as_json=as_json)


def migrate(
    *, revision: Annotated[str, typer.Option(help="The revision to reach.")] = "head", as_json: AsJson = False
) -> None:
    """Bring the database's schema up to date."""
    from execution.cli.migrating import bring_up_to_date

    run(bring_up_to_date(revision, as_json=as_json), as_json=as_json)


def settings(
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every setting: what it is now, its default, and what it means."""
    from execution.cli.setting_list import list_settings

    run(list_settings(markdown=markdown, as_json=as_json), as_json=as_json)


def asyncapi() -> None:
    """Print the contract of events and commands over Kafka (AsyncAPI), for these settings."""
    from execution.cli.contracting import print_kafka_contract

    run(print_kafka_contract(), as_json=True)


def doctor(*, as_json: AsJson = False) -> None:
    """Check settings, brokers, database, schema, workers, backlog, clock and disk, and say what to do."""
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


def _given(**overrides: Any) -> dict[str, Any]:
    """The settings that options were given for."""
    return {name: value for name, value in overrides.items() if value is not None}
