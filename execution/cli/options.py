"""Arguments and options: those that several commands share, and those of `submit`, which has many."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

# Headings of `execution --help`, and of docs/cli.md

TO_OPERATE = "To operate"
TO_SUBMIT = "To submit and follow"
TO_COMMAND = "To command"
STEPS = "Jobs of steps"
TO_PROVE = "To prove"

# Of many commands

ExecutionId = Annotated[UUID, typer.Argument(metavar="ID", help="The execution's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for scripts; errors too, on standard error.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; it is recorded.")]
IfVersion = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only if the execution is still at this version.")
]
Timeout = Annotated[float | None, typer.Option(min=0.0, metavar="SECONDS", help="How long to wait at most.")]
Kind = Annotated[str | None, typer.Option(help="Only of this kind.")]
Time = Annotated[str | None, typer.Option(metavar="TIME", help="ISO 8601, with time zone.")]

# Of `serve` and `worker`

Concurrency = Annotated[int | None, typer.Option(min=1, help="Executions at once.")]
OnlyKinds = Annotated[str | None, typer.Option(metavar="KIND,...", help="Only these kinds.")]
Handlers = Annotated[str | None, typer.Option(metavar="MODULE,...", help="Modules with handlers.")]
DrainTimeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="What running executions get to end on a stop.")
]

# Of `submit`

NewKind = Annotated[str, typer.Argument(metavar="KIND", help="The handler to run, such as text.analyze.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="KEY=VALUE|@FILE",
        help="One parameter, JSON if it reads as JSON and a string otherwise; or the JSON object of a file (@-: of "
        "standard input). Repeatable; later ones win.",
    ),
]
JsonParameters = Annotated[str | None, typer.Option(metavar="OBJECT", help="Parameters as one JSON object.")]
Priority = Annotated[int, typer.Option(help="Higher runs first, -1000 to 1000.")]
RunAt = Annotated[str | None, typer.Option(metavar="TIME", help="Not before this time; ISO 8601, with time zone.")]
AgentId = Annotated[str | None, typer.Option(metavar="ID", help="The agent it is for.")]
TaskId = Annotated[str | None, typer.Option(metavar="ID", help="The task it belongs to.")]
RetryPolicy = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        help="Repeat failed attempts, such as attempts=3,initial_delay=1,multiplier=2,max_delay=300,jitter=0.2,"
        "error_types=a|b; what is left out keeps its default.",
    ),
]
StartToClose = Annotated[float | None, typer.Option(metavar="SECONDS", help="Time limit of one attempt.")]
ScheduleToStart = Annotated[float | None, typer.Option(metavar="SECONDS", help="Time limit of waiting for a worker.")]
NoStart = Annotated[bool, typer.Option("--no-start", help="Leave it CREATED until `execution start`.")]
NewId = Annotated[
    UUID | None, typer.Option("--id", metavar="ID", help="Its id, to make a repeated submission harmless.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it has ended, and show how.")]
