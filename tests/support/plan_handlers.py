"""Step handlers for durable plans: each does what the test's stage says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from execution.domain.execution import JsonObject
from execution.handlers import HandlerRegistry
from execution.steps import ExecutionContext, JobStep, StepOutput
from tests.support.service import PATIENCE


class Stage:
    """Where a test and its steps meet. `work` and `work.async` do what `acts` says of their target, by default nothing;
    `stand`, `stand.async` and `stand.again` say that they are there, and wait until they may go on."""

    def __init__(self) -> None:
        self.executed: list[str] = []
        self.loop = asyncio.get_running_loop()
        self.acts: dict[str, Callable[[JobStep, ExecutionContext], StepOutput]] = {}
        self.there = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.thread_may_go_on = threading.Event()

    def register(self, registry: HandlerRegistry) -> None:
        registry.register_step("work", Working(self))
        registry.register_step("work.async", WorkingAsync(self))
        registry.register_step("work.again", WorkingAgain(self))
        registry.register_step("stand", Standing(self))
        registry.register_step("stand.async", StandingAsync(self))
        registry.register_step("stand.again", StandingAgain(self))

    def perform(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        self.executed.append(step.target)
        act = self.acts.get(step.target)
        return act(step, context) if act else StepOutput(success=True, output={"target": step.target})

    async def somebody_is_there(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.there.wait()
        self.there.clear()


class Working:
    name, version = "work", "1"

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        return self.stage.perform(step, context)


class WorkingAgain(Working):
    name, idempotent = "work.again", True


class WorkingAsync:
    name, version = "work.async", "1"

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        return self.stage.perform(step, context)


class Standing(Working):
    name = "stand"

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        self.stage.executed.append(step.target)
        self.stage.loop.call_soon_threadsafe(self.stage.there.set)
        assert self.stage.thread_may_go_on.wait(PATIENCE)
        return StepOutput(success=True)


class StandingAsync:
    name = "stand.async"

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        self.stage.executed.append(step.target)
        self.stage.there.set()
        await self.stage.may_go_on.wait()
        return StepOutput(success=True)


class StandingAgain(StandingAsync):
    name, idempotent = "stand.again", True


def plan(*steps: str | JsonObject, **fields: Any) -> JsonObject:
    """The parameters of a plan: steps as `TYPE:TARGET`, or as they are."""
    return {"steps": [_step(one) if isinstance(one, str) else one for one in steps], **fields}


def _step(said: str) -> JsonObject:
    step_type, _, target = said.partition(":")
    return {"step_type": step_type, "target": target}
