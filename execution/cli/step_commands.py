"""The commands about jobs of steps and their evidence, as declared; what they do is in the modules they import."""
# ruff: noqa: PLC0415 - `--help` does not wait for what the commands need

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from execution.cli.options import STEPS, TO_PROVE, AsJson, ExecutionId, NewId, Timeout
from execution.cli.running import run


def add_step_commands(app: typer.Typer) -> None:
    """Declare them, in the order of `--help`."""
    steps = typer.Typer(no_args_is_help=True, help="Carry out plans step by step, and look at their steps.")
    steps.command("run")(run_steps)
    steps.command("show")(show_steps)
    app.add_typer(steps, name="steps", rich_help_panel=STEPS)
    app.command(rich_help_panel=STEPS)(evidence)
    app.command(rich_help_panel=TO_PROVE)(verify)


def run_steps(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="The plan: YAML, or JSON.")],
    *,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only submit it; prints its id.")] = False,
    timeout: Timeout = None,
    job_id: NewId = None,
    as_json: AsJson = False,
) -> None:
    """Submit a plan and follow its steps until it has ended; the exit code says how."""
    from execution.cli.plan_running import run_plan

    run(run_plan(plan, job_id=job_id, wait=not no_wait, timeout=timeout, as_json=as_json), as_json=as_json)


def show_steps(job_id: ExecutionId, *, as_json: AsJson = False) -> None:
    """Show a job and its steps as they stand."""
    from execution.cli.plan_running import show_job

    run(show_job(job_id, as_json=as_json), as_json=as_json)


def evidence(
    job_id: ExecutionId,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Into this new file; default: print it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the evidence of a job of steps that has ended, for `execution verify`."""
    from execution.cli.plan_running import write_evidence

    run(write_evidence(job_id, output, as_json=as_json), as_json=as_json)


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.json", help="A bundle of evidence.")],
    *,
    outputs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the outputs are that the bundle names by place only.")
    ] = None,
    seal: Annotated[
        str | None, typer.Option(metavar="sha256:…", help="The seal that was kept elsewhere: is this that bundle?")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove offline that a bundle of evidence is what was recorded, or name the place where it is not."""
    from execution.cli.verifying import verify_file

    raise typer.Exit(int(verify_file(bundle, outputs=outputs, seal=seal, as_json=as_json)))
