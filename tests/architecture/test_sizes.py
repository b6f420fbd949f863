"""Size is a smell: modules and functions that grow past what one reads at a time have to say why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("execution", "events", "migrations", "benchmarks")
MODULES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 40
EXCUSE = "# long because: "


def functions_without_excuse(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if not lines[first - 2].strip().startswith(EXCUSE) or first == 1:
                yield node


def too_long(source: str) -> list[str]:
    return [
        f"{node.name} (line {node.lineno}) has {length} lines"
        for node in functions_without_excuse(source)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_module_can_be_read_at_once(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_MODULE_LINES
    assert too_long(source) == []


def test_the_measure_itself() -> None:
    long_one = "def long():\n" + "    pass\n" * MAX_FUNCTION_LINES
    assert too_long(long_one) == ["long (line 1) has 41 lines"]
    assert too_long(long_one.replace("    pass\n", "", 1)) == []
    assert too_long(f"\n{EXCUSE}a table\n{long_one}") == []
