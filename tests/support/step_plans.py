"""Plans, handlers and observers for tests of the step machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from execution.domain.execution import JsonObject
from execution.steps import (
    ExecutionContext,
    ExecutionResult,
    HealthObserver,
    JobExecutor,
    JobStep,
    StepOutput,
)

JOB = UUID("01890000-0000-7000-8000-000000000001")
CONTRACT = UUID("01890000-0000-7000-8000-000000000002")


class Recording:
    """A handler that remembers each call, and then does what it was made for."""

    name = "recording"
    version = "2.1.0"

    def __init__(self, act: Callable[[JobStep, ExecutionContext], Any] | None = None) -> None:
        self.calls: list[tuple[JobStep, ExecutionContext]] = []
        self._act = act or (lambda step, _: StepOutput(success=True, output={"target": step.target}))

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        self.calls.append((step, context))
        answer: StepOutput = self._act(step, context)
        return answer

    @property
    def executed(self) -> list[int]:
        return [step.step_index for step, _ in self.calls]


class Observer:
    """Observes a document of the test's, and how often it was asked."""

    def __init__(self, health: JsonObject | None = None) -> None:
        self.health: JsonObject = {"capabilities": {"search": {"state": "HEALTHY"}}} if health is None else health
        self.asked = 0

    def observe_health(self) -> JsonObject:
        self.asked += 1
        return self.health


def raising(error: BaseException) -> Callable[[JobStep, ExecutionContext], Any]:
    def act(_step: JobStep, _context: ExecutionContext) -> Any:
        raise error

    return act


def failing(error: str | None = "it broke", output: JsonObject | None = None) -> Recording:
    return Recording(lambda _step, _context: StepOutput(success=False, output=output or {}, error=error))


def plan_of(*step_types: str, **parameters: Any) -> list[JobStep]:
    """One step of each type, in this order."""
    return [JobStep(index, one, f"target-{index}", parameters) for index, one in enumerate(step_types)]


def carry_out(
    executor: JobExecutor, steps: Iterable[JobStep], observer: HealthObserver | None = None, actor: str = "executor"
) -> ExecutionResult:
    return executor.execute_job(JOB, CONTRACT, steps, observer, executed_by=actor)
