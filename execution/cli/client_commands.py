"""The commands of those who submit and follow executions, as declared; what they do is in the modules they import.

Those imports are inside the commands, so that `--help` does not wait for the database driver.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from execution.cli import options
from execution.cli.options import TO_COMMAND, TO_SUBMIT, AsJson, ExecutionId, IfVersion, Reason, Timeout
from execution.cli.running import run

CONTROLS = {
    "start": "Let an execution that was submitted with --no-start wait for a worker.",
    "pause": "Hold an execution back: at once if it waits, at its next pause point if it runs.",
    "resume": "Let a paused execution go on, or withdraw a pause.",
    "cancel": "Stop an execution.",
    "retry": "Try a FAILED or CANCELLED execution once more.",
}


def add_client_commands(app: typer.Typer) -> None:
    """Declare them, in the order of `--help`."""
    app.command("submit", rich_help_panel=TO_SUBMIT)(submit)
    app.command("watch", rich_help_panel=TO_SUBMIT)(watch)
    app.command("get", rich_help_panel=TO_SUBMIT)(get)
    app.command("list", rich_help_panel=TO_SUBMIT)(list_executions)
    app.command("history", rich_help_panel=TO_SUBMIT)(history)
    for name, text in CONTROLS.items():
        _add_control(app, name, text)
    app.command("delete", rich_help_panel=TO_COMMAND)(delete)


def submit(
    kind: options.NewKind,
    *,
    parameter: options.Parameters = None,
    json_parameters: options.JsonParameters = None,
    priority: options.Priority = 0,
    run_at: options.RunAt = None,
    agent_id: options.AgentId = None,
    task_id: options.TaskId = None,
    retry: options.RetryPolicy = None,
    start_to_close: options.StartToClose = None,
    schedule_to_start: options.ScheduleToStart = None,
    no_start: options.NoStart = False,
    execution_id: options.NewId = None,
    wait: options.Wait = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Submit an execution; prints its id."""
    from execution.cli.submitting import Ticket, submit_one

    fields = {
        "priority": priority,
        "run_at": run_at,
        "agent_id": agent_id,
        "task_id": task_id,
        "start_to_close": start_to_close,
        "schedule_to_start": schedule_to_start,
        "start": not no_start,
        "id": execution_id,
    }
    ticket = Ticket(
        kind=kind, parameters=tuple(parameter or ()), json_parameters=json_parameters, retry=retry, fields=fields
    )
    run(submit_one(ticket, wait=wait, timeout=timeout, as_json=as_json), as_json=as_json)


def watch(
    execution_id: ExecutionId,
    *,
    after: Annotated[int, typer.Option(min=0, metavar="N", help="Go on after this version.")] = 0,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Follow an execution live until it ends."""
    from execution.cli.watching import watch_one

    run(watch_one(execution_id, after=after, timeout=timeout, as_json=as_json), as_json=as_json)


def get(
    execution_id: ExecutionId,
    *,
    at_version: Annotated[int | None, typer.Option(min=1, metavar="N", help="As it was at this version.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one execution, as it is or as it was."""
    from execution.cli.showing import show_one

    run(show_one(execution_id, at_version=at_version, as_json=as_json), as_json=as_json)


def list_executions(
    *,
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
    kind: options.Kind = None,
    agent_id: Annotated[str | None, typer.Option(metavar="ID", help="Only of this agent.")] = None,
    task_id: Annotated[str | None, typer.Option(metavar="ID", help="Only of this task.")] = None,
    created_after: options.Time = None,
    created_before: options.Time = None,
    page: Annotated[int | None, typer.Option(min=1, help="A numbered page, with the total.")] = None,
    page_size: Annotated[int | None, typer.Option(min=1, max=1000, help="Executions on a page.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=1000, help="How many, without counting all.")] = None,
    before: Annotated[UUID | None, typer.Option(metavar="ID", help="Only those older than this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List executions, newest first, without parameters and results."""
    from execution.cli.showing import Window, show_many

    filters = {
        "state": state,
        "kind": kind,
        "agent_id": agent_id,
        "task_id": task_id,
        "created_after": created_after,
        "created_before": created_before,
    }
    window = Window.chosen(page=page, page_size=page_size, limit=limit, before=before)
    run(show_many(filters, window, as_json=as_json), as_json=as_json)


def history(
    execution_id: ExecutionId,
    *,
    after: Annotated[int, typer.Option(min=0, metavar="N", help="Only entries after this version.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries at most.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Show the numbered log of an execution."""
    from execution.cli.showing import show_history

    run(show_history(execution_id, after=after, limit=limit, as_json=as_json), as_json=as_json)


def delete(execution_id: ExecutionId, *, as_json: AsJson = False) -> None:
    """Delete an ended execution and its history."""
    from execution.cli.controlling import delete_one

    run(delete_one(execution_id, as_json=as_json), as_json=as_json)


def _add_control(app: typer.Typer, name: str, text: str) -> None:
    @app.command(name, help=text, rich_help_panel=TO_COMMAND)
    def control(
        execution_id: ExecutionId, *, reason: Reason = None, if_version: IfVersion = None, as_json: AsJson = False
    ) -> None:
        from execution.cli.controlling import control_one

        command = control_one(name, execution_id, reason=reason, expected_version=if_version, as_json=as_json)
        run(command, as_json=as_json)
