"""Step handlers of workers that are killed: each execution of a step leaves a line in a file outside the database.

A step begins with `began` and, when its effect is done, leaves `did`; both in one write each, so lines do not mix.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from execution.handlers import HandlerRegistry
from execution.steps import ExecutionContext, JobStep, StepOutput
from tests.support.service import PATIENCE
from tests.support.waiting import eventually

PLAN_HANDLERS = "tests.support.plan_worker_handlers"


def register(registry: HandlerRegistry) -> None:
    """For EXECUTION_HANDLERS."""
    registry.register_step("once", Blocking())
    registry.register_step("once.async", Awaited())
    registry.register_step("again", BlockingAgain())
    registry.register_step("gated", Gated())
    registry.register_step("gated.async", GatedAwaited())


class Blocking:
    """At most once, in a thread."""

    name, version = "once", "1"

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        _note(step, context, "began")
        time.sleep(step.parameters["seconds"])
        _note(step, context, "did")
        return StepOutput(success=True, output={"by": os.getpid()})


class BlockingAgain(Blocking):
    """The same, and twice does no harm."""

    name, idempotent = "again", True


class Awaited:
    """At most once, on the loop."""

    name, version = "once.async", "1"

    async def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        _note(step, context, "began")
        await asyncio.sleep(step.parameters["seconds"])
        _note(step, context, "did")
        return StepOutput(success=True, output={"by": os.getpid()})


class Gated:
    """At most once, in a thread, until the file `gate` is there."""

    name, version = "gated", "1"

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        _note(step, context, "began")
        give_up_at = time.monotonic() + PATIENCE
        while not os.path.exists(step.parameters["gate"]) and time.monotonic() < give_up_at:  # noqa: PTH110 - often
            time.sleep(0.005)
        _note(step, context, "did")
        return StepOutput(success=True, output={"by": os.getpid()})


class GatedAwaited:
    """The same on the loop."""

    name, version = "gated.async", "1"

    async def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        _note(step, context, "began")
        await eventually(lambda: os.path.exists(step.parameters["gate"]), within=PATIENCE, what="the gate is open")  # noqa: PTH110
        _note(step, context, "did")
        return StepOutput(success=True, output={"by": os.getpid()})


def _note(step: JobStep, context: ExecutionContext, what: str) -> None:
    line = f"{context.job_id} {step.step_index} {what} {os.getpid()}\n".encode()
    descriptor = os.open(step.parameters["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class StepLedger:
    """What the steps did, as they wrote it down themselves."""

    file: Path

    def counts(self, what: str) -> Counter[tuple[str, int]]:
        """How often each step of each job came so far."""
        return Counter((job, int(index)) for job, index, said, _ in self._lines() if said == what)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.file.stat().st_size if self.file.exists() else 0

    def is_longer_than(self, size: int) -> bool:
        """Was anything done since it had this size?"""
        return self.size > size

    def last_process(self) -> int:
        """Who has written last."""
        return int(self._lines()[-1][-1])

    def _lines(self) -> list[list[str]]:
        return [line.split() for line in self.file.read_text().splitlines()] if self.file.exists() else []
