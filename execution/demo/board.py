"""Shows executions live, from their log alone: a table that moves on a terminal, one line per event elsewhere."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import TracebackType
from typing import Self
from uuid import UUID

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from execution.domain.events import EventType
from execution.domain.evolve import evolve
from execution.domain.execution import Execution
from execution.domain.history import HistoryItem
from execution.domain.state import ExecutionState
from execution.presentation import describe_entry, printable
from execution.service import ExecutionService

CATCH_UP_SECONDS = 10.0
_STYLES = {"COMPLETED": "green", "PARTIAL_SUCCESS": "green", "FAILED": "red", "CANCELLED": "magenta", "RUNNING": "cyan"}
_BAR_WIDTH = 24
_LABEL_WIDTH = 34


class Board:
    """Follows executions as long as the block, each under a label."""

    def __init__(self, service: ExecutionService, screen: Console) -> None:
        self._service = service
        self._screen = screen
        self._began = time.monotonic()
        self._labels: dict[UUID, str] = {}
        self._rows: dict[UUID, Execution] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._live = (
            Live(console=screen, get_renderable=self._table, refresh_per_second=8) if screen.is_terminal else None
        )

    def follow(self, label: str, execution: Execution) -> None:
        """Show this execution from its first event on."""
        self._labels[execution.id] = label if len(label) <= _LABEL_WIDTH else f"{label[: _LABEL_WIDTH - 1]}…"
        self._tasks.append(asyncio.create_task(self._follow(execution.id), name=f"board {label}"))

    def say(self, sentence: str) -> None:
        """Say what happens next."""
        self._screen.print(Text(f"{self._elapsed}  ── {sentence}", style="bold"))

    async def caught_up(self) -> None:
        """Wait until every execution has been followed to its end."""
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await asyncio.gather(*self._tasks)

    async def __aenter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._live:
            self._live.stop()

    async def _follow(self, execution_id: UUID) -> None:
        async for item in self._service.watch(execution_id):
            before = self._rows.get(execution_id)
            after = self._rows[execution_id] = evolve(before, item.to_event())
            if self._live is None and _is_news(item, before, after):
                self._screen.print(
                    f"{self._elapsed}  {self._labels[execution_id]:<{_LABEL_WIDTH}}  {describe_entry(item)}"
                )

    def _table(self) -> Table:
        table = Table("execution", "state", "progress", "", "attempt", box=None, header_style="dim", padding=(0, 2))
        with suppress(RuntimeError):  # a row that comes while the screen is drawn is drawn next time
            for execution_id, execution in self._rows.items():
                progress = execution.progress
                table.add_row(
                    self._labels[execution_id],
                    Text(execution.state, style=_STYLES.get(execution.state, "")),
                    ProgressBar(completed=progress.percentage, width=_BAR_WIDTH),
                    Text(printable(progress.message or "")),
                    str(execution.attempt),
                )
        return table

    @property
    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:5.1f} s"


def _is_news(item: HistoryItem, before: Execution | None, after: Execution) -> bool:
    """Worth a line? Of progress, each quarter is; of an end, only the entry that says how."""
    if before is None or before.state is ExecutionState.CREATED:
        return False
    if item.type == EventType.PROGRESS:
        return after.progress.percentage // 25 > before.progress.percentage // 25
    return item.is_final or not after.is_terminal
