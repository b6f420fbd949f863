"""Where output goes: answers to standard output, everything else to standard error; for people or as JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

_PLAIN_WIDTH = 200
"""Columns where there is no terminal to ask: wide enough that no id is cut."""


def console(*, errors: bool = False) -> Console:
    """Standard output (or error) for people. Nothing in a text is taken for markup: it may come from anybody."""
    stream = sys.stderr if errors else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PLAIN_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=not stream.isatty())


def print_json(document: Any, *, errors: bool = False) -> None:
    """One JSON document on one line, in ASCII, whatever the locale."""
    print(json.dumps(document), file=sys.stderr if errors else sys.stdout, flush=True)


def answer(document: Any, view: RenderableType, *, as_json: bool) -> None:
    """What the command was asked for: the document for a script, the view for people."""
    if as_json:
        print_json(document)
    else:
        console().print(view)


def fail(code: str, message: str, *, as_json: bool) -> None:
    """Say what went wrong, and what to do, on standard error."""
    if as_json:
        print_json({"code": code, "message": message}, errors=True)
    else:
        console(errors=True).print(Text.assemble(("error: ", "bold red"), message))


def hint(message: str, *, as_json: bool) -> None:
    """Something worth knowing that is no error, on standard error."""
    if as_json:
        print_json({"hint": message}, errors=True)
    else:
        console(errors=True).print(Text.assemble(("hint: ", "bold yellow"), message))
