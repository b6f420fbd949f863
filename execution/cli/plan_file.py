"""Reading a plan from a file: YAML, and so also JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from execution.cli.parameters import UnreadableOptionError
from execution.domain.execution import JsonObject

MAX_BYTES = 1_048_576


def read_plan(path: Path) -> JsonObject:
    """The plan, as the parameters of its execution; a list alone is one of steps.

    Raises:
        UnreadableOptionError: the file cannot be read, or says nothing that could be a plan.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, (error.strerror or str(error)).lower()) from None
    if len(content) > MAX_BYTES:
        raise _unreadable(path, f"it has more than {MAX_BYTES:,} bytes")
    try:
        said: Any = yaml.safe_load(content)
    except yaml.MarkedYAMLError as error:
        raise _unreadable(path, f"it is not YAML: {_where(error)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _unreadable(path, f"it is not YAML: {' '.join(str(error).split())}") from None
    plan = {"steps": said} if isinstance(said, list) else said
    if not isinstance(plan, dict) or not all(isinstance(key, str) for key in plan):
        raise _unreadable(path, "write a list of steps, or an object with the key `steps`")
    return plan


def _where(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + ", ".join(said for said in (error.problem, error.context) if said)


def _unreadable(path: Path, problem: str) -> UnreadableOptionError:
    return UnreadableOptionError("PLAN", str(path), problem)
