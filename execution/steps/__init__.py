"""Jobs made of steps, and the evidence they leave: a machine that executes a plan and records what happened."""

from execution.steps.default_handlers import FailingHandler, NoOpHandler, create_default_executor
from execution.steps.errors import InvalidPlanError
from execution.steps.evidence import execution_result_to_evidence
from execution.steps.frozen import thaw
from execution.steps.machine import EXECUTOR_VERSION, JobExecutor, interrupted_result
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
    "EXECUTOR_VERSION",
    "AsyncStepHandler",
    "ExecutionContext",
    "ExecutionResult",
    "FailingHandler",
    "HandlerIdentity",
    "HealthObserver",
    "InvalidPlanError",
    "JobExecutor",
    "JobStatus",
    "JobStep",
    "NoOpHandler",
    "StepHandler",
    "StepOutput",
    "StepResult",
    "StepStatus",
    "StoredOutput",
    "create_default_executor",
    "execution_result_to_evidence",
    "interrupted_result",
    "thaw",
]
