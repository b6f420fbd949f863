"""Loads `statements.sql`: each hot statement by its name."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_HEAD = re.compile(r"^-- (name|part): (\w+)$", re.MULTILINE)
_THEN = re.compile(r"^-- then: (\w+)$", re.MULTILINE)


@cache
def statements() -> dict[str, str]:
    """Every statement of the file by name, put together from its parts and without comments."""
    text = files("execution.repository").joinpath("statements.sql").read_text(encoding="utf-8")
    _, *pieces = _HEAD.split(text)
    bodies: dict[str, dict[str, str]] = {"name": {}, "part": {}}
    for what, name, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        bodies[what][name] = body
    parts = {name: _without_comments(body) for name, body in bodies["part"].items()}
    whole = {name: _THEN.sub(lambda then: parts[then[1]], body) for name, body in bodies["name"].items()}
    return {name: _without_comments(body) for name, body in whole.items()}


def statement(name: str) -> str:
    """One statement by name."""
    return statements()[name]


def _without_comments(body: str) -> str:
    lines = (line for line in body.splitlines() if not line.startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
