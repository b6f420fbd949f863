"""Jobs made of steps, and the evidence they leave: a machine that executes a plan and records what happened."""

from execution.steps.errors import InvalidPlanError
from execution.steps.frozen import thaw
from execution.steps.model import (
    AsyncStepHandler,
    ExecutionContext,
    ExecutionResult,
    HandlerIdentity,
    HealthObserver,
    JobStatus,
    JobStep,
    StepHandler,
    StepOutput,
    StepResult,
    StepStatus,
    StoredOutput,
)

__all__ = [
    "AsyncStepHandler",
    "ExecutionContext",
    "ExecutionResult",
    "HandlerIdentity",
    "HealthObserver",
    "InvalidPlanError",
    "JobStatus",
    "JobStep",
    "StepHandler",
    "StepOutput",
    "StepResult",
    "StepStatus",
    "StoredOutput",
    "thaw",
]
