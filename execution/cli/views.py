"""What people see of executions and their log: tables and lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from execution.domain.execution import NO_PROGRESS, Execution
from execution.domain.history import HistoryItem
from execution.domain.state import ExecutionState
from execution.presentation import describe_actor, describe_entry, printable

_STYLES = {
    ExecutionState.RUNNING: "cyan",
    ExecutionState.PAUSED: "yellow",
    ExecutionState.CANCELLING: "yellow",
    ExecutionState.COMPLETED: "green",
    ExecutionState.PARTIAL_SUCCESS: "green",
    ExecutionState.FAILED: "red",
    ExecutionState.CANCELLED: "magenta",
}


def state_text(state: ExecutionState) -> Text:
    """The state in its colour."""
    return Text(state.value, style=_STYLES.get(state, ""))


def execution_view(execution: Execution) -> RenderableType:
    """Everything about one execution that people ask for."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    for name, value in _rows(execution):
        grid.add_row(name, value if isinstance(value, Text) else printable(value))
    documents = [
        _document(name, value)
        for name, value in (("parameters", execution.parameters), ("result", execution.result))
        if value
    ]
    return Group(grid, *documents)


def executions_table(executions: Sequence[Execution], caption: str) -> Table:
    """A list of executions, for a terminal of 80 columns."""
    # However narrow it is, the id is whole: it is what one needs for the next command.
    whole = [Column(name, no_wrap=True) for name in ("id", "state", "done", "created")]
    folded = [Column(name, overflow="fold") for name in ("kind", "error")]
    table = Table(*whole, *folded, box=None, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    for one in executions:
        table.add_row(
            str(one.id),
            state_text(one.state),
            _done(one) or "",
            f"{one.created_at:%m-%d %H:%M}",
            printable(one.kind),
            printable(str(one.error.get("type"))) if one.error else "",
        )
    return table


def history_table(items: Iterable[HistoryItem]) -> Table:
    """The log of an execution."""
    table = Table("version", "time (UTC)", "what happened", "by")
    for item in items:
        table.add_row(str(item.version), _shown(item.occurred_at), describe_entry(item), describe_actor(item))
    return table


def entry_line(item: HistoryItem) -> str:
    """One entry of the log on one line."""
    return f"{item.version:>5}  {_shown(item.occurred_at)}  {describe_entry(item)}"


def _rows(execution: Execution) -> list[tuple[str, str | Text]]:
    error = execution.error or {}
    done = _done(execution)
    rows: list[tuple[str, str | Text | None]] = [
        ("id", str(execution.id)),
        ("kind", execution.kind),
        ("state", _state_and_wish(execution)),
        ("version", str(execution.version)),
        ("attempt", str(execution.attempt)),
        ("progress", done and f"{done}  {execution.progress.message or ''}".rstrip()),
        ("priority", str(execution.priority) if execution.priority else None),
        ("agent", execution.agent_id),
        ("task", execution.task_id),
        ("created", _shown(execution.created_at)),
        ("run at", _shown(execution.run_at) if execution.run_at > execution.created_at else None),
        ("started", _shown(execution.started_at) if execution.started_at else None),
        ("ended", _shown(execution.completed_at) if execution.completed_at else None),
        ("error", f"{error.get('type')}: {error.get('message')}" if error else None),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _done(execution: Execution) -> str | None:
    """How far it says it is: nothing where its handler has said nothing, so that nobody reads COMPLETED and 0 %."""
    return None if execution.progress == NO_PROGRESS else f"{execution.progress.percentage:.0f} %"


def _state_and_wish(execution: Execution) -> Text:
    text = state_text(execution.state)
    return text.append("  (pause requested)") if execution.pause_requested else text


def _document(name: str, document: Any) -> RenderableType:
    lines = json.dumps(document, indent=2, ensure_ascii=False).splitlines()
    return Group(Text(f"\n{name}", style="bold"), Text("\n".join(printable(line) for line in lines)))


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"
