"""Calling a step's handler as an executor would."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from execution.steps.handlers.blocking import AwaitedHandler
from execution.steps.model import ExecutionContext, JobStep, StepOutput

JOB = UUID(int=1)
CONTRACT = UUID(int=2)


def context_of(step: JobStep, *, executed_by: str = "tester") -> ExecutionContext:
    """What an executor says of the job."""
    return ExecutionContext(
        job_id=JOB,
        contract_id=CONTRACT,
        step_index=step.step_index,
        step_type=step.step_type,
        target=step.target,
        executed_by=executed_by,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def executed(
    handler: AwaitedHandler, target: str, *, timeout_seconds: float | None = None, **parameters: Any
) -> StepOutput:
    """What the handler makes of one step."""
    step = JobStep(
        step_index=0, step_type=handler.name, target=target, parameters=parameters, timeout_seconds=timeout_seconds
    )
    return await handler.execute(step, context_of(step))
