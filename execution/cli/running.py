"""Runs a command's coroutine to its end, and turns whatever happens into a readable line and an exit code."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer

from execution.cli.exit_codes import ExitCode, exit_code_of
from execution.cli.output import fail
from execution.errors import ExecutionServiceError
from execution.process import run as run_process

INTERRUPTED = 130
"""The shell's code for a program that Ctrl-C ended."""


def run(command: Coroutine[Any, Any, int | None], *, as_json: bool) -> NoReturn:
    """Run the command and end the program with its exit code."""
    try:
        code = run_process(command) or ExitCode.OK
    except ExecutionServiceError as error:
        fail(error.code, str(error), as_json=as_json)
        code = exit_code_of(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = INTERRUPTED
    except (BrokenPipeError, typer.TyperException):
        raise
    except Exception as error:  # noqa: BLE001 - the last barrier: people get a line, not a traceback
        fail("unexpected", _unexpected(error), as_json=as_json)
        code = ExitCode.UNEXPECTED
    raise typer.Exit(int(code))


def _unexpected(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{where.filename}, line {where.lineno}"
    return f"{type(error).__name__}: {error} ({place}). This is a defect of the program: please report it."
