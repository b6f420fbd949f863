"""Loads `statements.sql`: each hot statement by its name."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statements() -> dict[str, str]:
    """Every statement of the file by name, without its comments."""
    text = files("execution.repository").joinpath("statements.sql").read_text(encoding="utf-8")
    pieces = _NAME.split(text)[1:]
    return {name: _without_comments(body) for name, body in zip(pieces[::2], pieces[1::2], strict=True)}


def statement(name: str) -> str:
    """One statement by name."""
    return statements()[name]


def _without_comments(body: str) -> str:
    lines = (line for line in body.splitlines() if not line.startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
