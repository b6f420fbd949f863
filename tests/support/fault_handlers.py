"""Handlers for workers that are killed, stopped and cut off: what they did stands in a file outside the database."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from pydantic import BaseModel

from execution.domain.execution import JsonObject
from execution.handlers import HandlerRegistry, TaskContext
from tests.support import process_handlers
from tests.support.waiting import eventually

_GATE_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.02


class Effect(BaseModel):
    """Where to leave a line, which file to wait for afterwards (none: not at all), and how long to work then.

    `later_gate` is another file to wait for, in all attempts but the first.
    """

    ledger: Path
    gate: Path | None = None
    later_gate: Path | None = None
    seconds: float = 0.0


def register(registry: HandlerRegistry) -> None:
    registry.register("fault.once", leave_a_line)
    registry.register("fault.again", leave_a_line, idempotent=True)
    registry.register("fault.deaf", ignore_everything)
    registry.register("fault.process", process_handlers.ignore, isolation="process")


async def leave_a_line(context: TaskContext, parameters: Effect) -> JsonObject:
    """The side effect: one line per run, written before the wait."""
    leave_a_mark(parameters.ledger, context)
    for gate in (parameters.gate, parameters.later_gate if context.attempt > 1 else None):
        if gate is not None:
            await eventually(gate.exists, within=_GATE_SECONDS, what=f"the test opens the {gate.name}")
    await asyncio.sleep(parameters.seconds)
    return {"attempt": context.attempt}


def ignore_everything(context: TaskContext, parameters: Effect) -> JsonObject:
    """The same in a thread, deaf to every request to stop."""
    leave_a_mark(parameters.ledger, context)
    give_up_at = time.monotonic() + _GATE_SECONDS
    while parameters.gate is not None and not parameters.gate.exists() and time.monotonic() < give_up_at:
        time.sleep(_LOOK_AGAIN_SECONDS)
    return {"attempt": context.attempt}


def leave_a_mark(ledger: Path, context: TaskContext) -> None:
    """The execution, its attempt and its process, in one write, so that lines of several processes do not mix."""
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{context.execution_id} {context.attempt} {os.getpid()}\n".encode())
    finally:
        os.close(descriptor)
