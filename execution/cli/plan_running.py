"""`execution steps`: submits a plan and shows its steps while they are carried out; `execution evidence`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from execution.cli.connection import open_client
from execution.cli.exit_codes import ExitCode, exit_code_for
from execution.cli.output import answer, console, fail, hint
from execution.cli.plan_file import read_plan
from execution.cli.submitting import hint_at_missing_worker
from execution.cli.views import state_text
from execution.domain.evolve import evolve
from execution.domain.execution import Execution, JsonObject
from execution.domain.history import HistoryItem
from execution.domain.state import ExecutionState
from execution.errors import WaitTimeoutError
from execution.presentation import printable
from execution.service import ExecutionService
from execution.steps.plan import KIND
from execution.steps.plan_evidence import evidence_of
from execution.steps.plan_log import PlanLog, plan_in
from execution.steps.step_job import step_job, step_job_to_json

_STYLES = {
    "RUNNING": "cyan",
    "COMPLETED": "green",
    "FAILED": "red",
    "CANCELLED": "magenta",
    "OUTCOME_UNKNOWN": "red",
}


async def run_plan(
    path: Path,
    *,
    job_id: UUID | None,
    wait: bool,
    timeout: float | None,  # noqa: ASYNC109 - the user's, for the whole wait
    as_json: bool,
) -> int:
    """Submit the plan of a file, and see it carried out."""
    plan = read_plan(path)
    async with open_client() as service:
        execution = await service.create_execution(KIND, plan, id=job_id)
        await hint_at_missing_worker(service, execution, as_json=as_json)
        if not wait:
            answer(step_job_to_json(execution), str(execution.id), as_json=as_json)
            return ExitCode.OK
        await _seen_to_its_end(service, execution, timeout=timeout, as_json=as_json)
        ended, document = await step_job(service, execution.id)
    answer(document, job_table(document), as_json=as_json)
    return exit_code_for(ended.state)


async def show_job(job_id: UUID, *, as_json: bool) -> int:
    """Show a job and its steps as they stand."""
    async with open_client() as service:
        _, document = await step_job(service, job_id)
    answer(document, job_table(document), as_json=as_json)
    return ExitCode.OK


async def write_evidence(job_id: UUID, output: Path | None, *, as_json: bool) -> int:
    """Write the bundle of a job, byte by byte, to standard output or into a new file."""
    async with open_client() as service:
        bundle = await evidence_of(service, job_id)
    if output is None:
        sys.stdout.buffer.write(bundle)
        sys.stdout.buffer.flush()
        return ExitCode.OK
    try:
        with output.open("xb") as file:
            file.write(bundle)
    except OSError as error:
        fail("unwritable", f"{output} cannot be written: {error.strerror or error}.", as_json=as_json)
        return ExitCode.INVALID
    answer({"file": str(output), "bytes": len(bundle)}, f"{output}: {len(bundle):,} bytes", as_json=as_json)
    return ExitCode.OK


def job_table(document: JsonObject) -> Table:
    """The steps of a job, for a terminal."""
    caption = Text.assemble(
        f"{document['id']}  ", _state(document["state"]), f"  {document['progress']['percentage']:.0f} %"
    )
    if document["error"]:
        caption.append(f"\n{printable(str(document['error'].get('message')))}", style="red")
    table = Table(box=None, padding=(0, 2, 0, 0), caption=caption, caption_justify="left")
    table.add_column("", justify="right")
    for name in ("step", "type", "target", "status", "error"):
        table.add_column(name, overflow="fold")
    for step in document["steps"]:
        table.add_row(
            str(step["step_index"]),
            step["id"] or "",
            printable(step["step_type"]),
            printable(step["target"]),
            _status(step),
            printable(step["error"] or ""),
        )
    return table


def _status(step: JsonObject) -> Text:
    again = f" (attempt {step['attempt']})" if step["attempt"] > 1 else ""
    return Text(f"{step['status']}{again}", style=_STYLES.get(step["status"], "dim"))


def _state(state: str) -> Text:
    return state_text(ExecutionState(state))


async def _seen_to_its_end(
    service: ExecutionService,
    execution: Execution,
    *,
    timeout: float | None,  # noqa: ASYNC109
    as_json: bool,
) -> None:
    try:
        async with asyncio.timeout(timeout):
            if as_json or not (screen := console(errors=True)).is_terminal:
                await service.wait(execution.id)
                return
            with live_table(execution, screen) as show:
                async for item in service.watch(execution.id):
                    show(item)
    except TimeoutError:
        raise WaitTimeoutError(execution.id, timeout or 0.0) from None
    except asyncio.CancelledError:
        hint(f"look again with: execution steps show {execution.id}", as_json=as_json)
        raise


@contextmanager
def live_table(execution: Execution, screen: Console) -> Iterator[Callable[[HistoryItem], None]]:
    """A table of the steps that follows the log."""
    current, plan_log = execution, PlanLog(plan_in(execution))
    with Live(job_table(step_job_to_json(execution)), console=screen, transient=True) as live:

        def show(item: HistoryItem) -> None:
            nonlocal current
            plan_log.take(item)
            if item.version == current.version + 1:
                current = evolve(current, item.to_event())
            live.update(job_table(step_job_to_json(current, plan_log)))

        yield show
