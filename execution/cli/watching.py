"""`execution watch`, and waiting for an end with something to look at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from execution.cli.connection import open_client
from execution.cli.exit_codes import exit_code_for
from execution.cli.output import console, hint, print_json
from execution.cli.views import entry_line, state_text
from execution.domain.events import EventType
from execution.domain.evolve import evolve
from execution.domain.execution import Execution
from execution.domain.history import HistoryItem
from execution.errors import WaitTimeoutError
from execution.presentation import printable
from execution.service import ExecutionService

Show = Callable[[HistoryItem], None]


async def watch_one(execution_id: UUID, *, after: int, timeout: float | None, as_json: bool) -> int:  # noqa: ASYNC109
    """Show an execution's log after a version, live, until it ends."""
    async with open_client() as service:
        execution = await service.get_execution(execution_id)
        with _shown(execution, console(), as_json=as_json) as show:
            ended = await _follow(service, execution, show, after=after, timeout=timeout, as_json=as_json)
    return exit_code_for(ended.state)


async def await_end(
    service: ExecutionService,
    execution: Execution,
    *,
    timeout: float | None,  # noqa: ASYNC109 - the user's, for the whole wait
    as_json: bool,
) -> Execution:
    """The execution once it has ended; meanwhile a terminal sees its progress, and a script nothing.

    Raises:
        WaitTimeoutError: it has not ended in time.
    """
    screen = console(errors=True)
    if as_json or not screen.is_terminal:
        return await service.wait(execution.id, timeout)
    with _bar(execution, screen) as show:
        return await _follow(service, execution, show, after=execution.version, timeout=timeout, as_json=False)


async def _follow(
    service: ExecutionService,
    execution: Execution,
    show: Show,
    *,
    after: int,
    timeout: float | None,  # noqa: ASYNC109
    as_json: bool,
) -> Execution:
    seen = after
    try:
        async with asyncio.timeout(timeout):
            async for item in service.watch(execution.id, after_version=after):
                show(item)
                seen = item.version
    except TimeoutError:
        raise WaitTimeoutError(execution.id, timeout or 0.0) from None
    except asyncio.CancelledError:
        hint(f"go on with: execution watch {execution.id} --after {seen}", as_json=as_json)
        raise
    return await service.get_execution(execution.id)


@contextmanager
def _shown(execution: Execution, screen: Console, *, as_json: bool) -> Iterator[Show]:
    if as_json:
        yield lambda item: print_json(item.to_json())
    elif screen.is_terminal:
        with _bar(execution, screen) as show:
            yield show
    else:
        yield lambda item: screen.print(entry_line(item))


@contextmanager
def _bar(execution: Execution, screen: Console) -> Iterator[Show]:
    """A live progress bar, with the changes of state as lines above it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", markup=False),
    )
    current = execution
    with Progress(*columns, console=screen, transient=True) as progress:
        bar = progress.add_task(state_text(execution.state).markup, total=100, message="")

        def show(item: HistoryItem) -> None:
            nonlocal current
            if item.type != EventType.PROGRESS:
                progress.console.print(entry_line(item))
            # Entries from before the version that was read are old news to the bar.
            if item.version == current.version + 1:
                current = evolve(current, item.to_event())
            progress.update(
                bar,
                completed=current.progress.percentage,
                description=state_text(current.state).markup,
                message=printable(current.progress.message or ""),
            )

        yield show
