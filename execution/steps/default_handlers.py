"""Handlers that do nothing or nothing but fail, and the executor that has them: for tests and first trials."""

from __future__ import annotations

from execution.steps.machine import JobExecutor
from execution.steps.model import ExecutionContext, JobStep, StepOutput

_NOTHING = StepOutput(success=True)


class NoOpHandler:
    """Always succeeds, without doing anything."""

    name = "noop"
    version = "1.0.0"
    idempotent = True
    blocks = False

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        """Succeed."""
        return _NOTHING


class FailingHandler:
    """Always fails, with the error it was made with."""

    name = "failing"
    version = "1.0.0"
    idempotent = True
    blocks = False

    def __init__(self, error_message: str = "This handler always fails") -> None:
        self._error_message = error_message

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        """Fail."""
        return StepOutput(success=False, error=self._error_message)


def create_default_executor() -> JobExecutor:
    """An executor whose handlers do nothing. Those that do something are registered in their place."""
    return JobExecutor({"noop": NoOpHandler(), "capability_enable": NoOpHandler(), "capability_disable": NoOpHandler()})
