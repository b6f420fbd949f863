"""What the demo shows at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from execution.demo.checks import Check
from execution.domain.execution import JsonObject
from execution.domain.history import HistoryItem
from execution.presentation import describe_actor, describe_entry, printable

MAX_ROWS = 8
MAX_SUMMARY_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """Every promise and whether it held; the results; and how long it took."""

    checks: Sequence[Check]
    problems: Sequence[str]
    history: Sequence[HistoryItem]
    inventory: JsonObject
    analysis: JsonObject
    summary: JsonObject
    seconds: float

    @property
    def held(self) -> bool:
        """Did every promise hold?"""
        return bool(self.checks) and all(check.held for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return {
            "held": self.held,
            "promises": [check.to_json() for check in self.checks],
            "problems": list(self.problems),
            "history": [item.to_json() for item in self.history],
            "inventory": {"total": self.inventory["total"], "languages": self.inventory["languages"]},
            "analysis": self.analysis,
            "summary": self.summary,
            "seconds": round(self.seconds, 1),
        }

    def print_to(self, screen: Console) -> None:
        """Show all of it."""
        screen.print()
        screen.print(_history_table(self.history))
        screen.print(_inventory_table(self.inventory))
        screen.print(_analysis_table(self.analysis))
        screen.print(Text(f"Summary: {_shortened(self.summary['summary'])}\n"))
        screen.print(_checks_table(self.checks))
        for problem in self.problems:
            screen.print(Text(problem, style="red"))
        verdict = "Every promise held" if self.held else "NOT every promise held"
        screen.print(Text(f"{verdict}; {self.seconds:.1f} s.", style="bold green" if self.held else "bold red"))


def _checks_table(checks: Iterable[Check]) -> Table:
    table = Table("", "promise", "what was seen", title="Promises")
    for check in checks:
        mark = Text("✓", style="bold green") if check.held else Text("✗", style="bold red")
        table.add_row(mark, check.promise, printable(check.seen))
    return table


def _history_table(items: Sequence[HistoryItem]) -> Table:
    table = Table("version", "after", "what happened", "by", title="The log of the execution that was rescued")
    for item in items:
        after = (item.occurred_at - items[0].occurred_at).total_seconds()
        table.add_row(str(item.version), f"{after:.3f} s", describe_entry(item), describe_actor(item))
    return table


def _shortened(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MAX_SUMMARY_CHARACTERS else f"{text[:MAX_SUMMARY_CHARACTERS]} …"


def _inventory_table(inventory: JsonObject) -> Table:
    total = inventory["total"]
    caption = f"{total['files']:,} files, {total['lines']:,} lines, {total['bytes']:,} bytes"
    table = Table("language", "files", "lines", "bytes", title="Inventory of the folder", caption=caption)
    for one in inventory["languages"][:MAX_ROWS]:
        table.add_row(printable(one["language"]), *(f"{one[figure]:,}" for figure in ("files", "lines", "bytes")))
    return table


def _analysis_table(analysis: JsonObject) -> Table:
    table = Table("figure", "value", title=f"Analysis of {printable(analysis['path'])}")
    for figure in ("words", "unique_words", "sentences", "lines", "flesch_reading_ease", "reading_time_seconds"):
        value = analysis[figure]
        table.add_row(figure.replace("_", " "), f"{value:,}" if value is not None else "none")
    terms = ", ".join(f"{one['term']} ({one['count']})" for one in analysis["terms"][:MAX_ROWS])
    table.add_row("most frequent terms", printable(terms))
    return table
