"""Plain functions for a process of their own; the test hears from them through files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from execution.domain.execution import JsonObject
from execution.domain.outcome import PartialSuccess
from execution.handlers import TaskContext

_FOREVER = 60.0


def identify(context: TaskContext, parameters: JsonObject) -> JsonObject:
    """What it sees of itself, after a report."""
    context.progress(50, "half", {"pid": os.getpid()})
    return {
        "pid": os.getpid(),
        "id": str(context.execution_id),
        "key": context.idempotency_key,
        "kind": context.kind,
        "attempt": context.attempt,
        "parameters": parameters,
    }


def record(context: TaskContext, parameters: JsonObject) -> None:
    """Says two facts."""
    context.record("process.began", parameters)
    context.record("process.ends")


def partly(context: TaskContext, parameters: JsonObject) -> PartialSuccess:
    return PartialSuccess({"half": 1}, missing="the other half")


def fail(context: TaskContext, parameters: JsonObject) -> None:
    raise LookupError("no such page")


def leave(context: TaskContext, parameters: JsonObject) -> None:
    sys.exit("usage: ...")


def die(context: TaskContext, parameters: JsonObject) -> None:
    os._exit(3)


def return_a_lock(context: TaskContext, parameters: JsonObject) -> object:
    """Cannot be pickled."""
    return lambda: None


def report_nonsense(context: TaskContext, parameters: JsonObject) -> JsonObject:
    context.progress(50, None, {"x": float("nan")})
    time.sleep(_FOREVER)
    return {}


def obey(context: TaskContext, parameters: JsonObject) -> None:
    """Stops when asked to."""
    Path(parameters["pid_file"]).write_text(str(os.getpid()))
    give_up_at = time.monotonic() + _FOREVER
    while time.monotonic() < give_up_at:
        context.raise_if_cancelled()
        time.sleep(0.01)


def ignore(context: TaskContext, parameters: JsonObject) -> None:
    """Never stops by itself, and has started a program of its own."""
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({_FOREVER})"])
    Path(parameters["pid_file"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(_FOREVER)
    time.sleep(_FOREVER)


def hold(context: TaskContext, parameters: JsonObject) -> object:
    return context.pause_point().send(None)
