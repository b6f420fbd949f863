"""The tables, on a terminal and in Markdown, have a row for every figure and every point of growth."""

from __future__ import annotations

import io

from rich.console import Console

from benchmarks.markdown import markdown
from benchmarks.table import tables
from tests.benchmarks.sample import results


def test_on_a_terminal() -> None:
    written = io.StringIO()
    Console(file=written, width=200).print(tables(results()))
    shown = written.getvalue()
    assert "noop per second" in shown
    assert "23,456.7" in shown
    assert "step overhead us" in shown
    assert sum("in flight" in line for line in shown.splitlines()) == 10
    assert "204,802 bytes of document" in shown


def test_in_markdown() -> None:
    lines = markdown(results()).splitlines()
    assert "| no-op executions per second | 23,457 | 23,457 | 0.62 |" in lines
    assert "| page 1,000 and page 1 by cursor, ms | 1.10 | 1.10 | 1.10 |" in lines
    assert "| 512 in flight | 12,858 | 101 | 72 | 3,900 | all processors |" in lines
    assert all(line.count("|") in (0, 5, 7) for line in lines)
