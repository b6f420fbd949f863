"""Handlers that hang, each in its own way, until the test opens the gate; those that come back leave a second line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from execution.handlers import HandlerRegistry, TaskContext
from tests.support.fault_handlers import leave_a_mark

_GATE_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.02
_TURNS_BETWEEN_LOOKS = 200_000


class Hang(BaseModel):
    """Where to leave a line at the beginning and at the end, and which file ends the hang."""

    ledger: Path
    gate: Path

    def looks(self) -> Iterator[None]:
        """One after the other, as long as the gate is closed."""
        give_up_at = time.monotonic() + _GATE_SECONDS
        while not self.gate.exists() and time.monotonic() < give_up_at:
            yield


def register(registry: HandlerRegistry) -> None:
    registry.register("hang.await", wait_for_ever)
    registry.register("hang.deaf", wait_without_listening)
    registry.register("hang.thread", sleep)
    registry.register("hang.cpu", compute)
    registry.register("hang.child", sleep, isolation="process")
    registry.register("hang.loop", compute_on_the_loop)


async def wait_for_ever(context: TaskContext, parameters: Hang) -> None:
    """For what never comes; obeys a cancellation, as every `await` does that nobody shields."""
    leave_a_mark(parameters.ledger, context)
    await asyncio.Event().wait()


async def wait_without_listening(context: TaskContext, parameters: Hang) -> None:
    """As handlers do that catch everything and try again."""
    leave_a_mark(parameters.ledger, context)
    for _ in parameters.looks():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    leave_a_mark(parameters.ledger, context)


def sleep(context: TaskContext, parameters: Hang) -> None:
    """In a thread or a process, which nothing but its end can interrupt."""
    leave_a_mark(parameters.ledger, context)
    for _ in parameters.looks():
        time.sleep(_LOOK_AGAIN_SECONDS)
    leave_a_mark(parameters.ledger, context)


def compute(context: TaskContext, parameters: Hang) -> None:
    """In a thread that takes the interpreter from the others whenever it is its turn."""
    leave_a_mark(parameters.ledger, context)
    for _ in parameters.looks():
        sum(range(_TURNS_BETWEEN_LOOKS))
    leave_a_mark(parameters.ledger, context)


async def compute_on_the_loop(context: TaskContext, parameters: Hang) -> None:
    """The same where it blocks the whole worker, its heartbeats too."""
    compute(context, parameters)
