"""Jobs made of steps, and the evidence they leave: a machine that executes a plan and records what happened."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from execution.steps.bundle import Bounds, evidence_bundle, stored_output
from execution.steps.default_handlers import FailingHandler, NoOpHandler, create_default_executor
from execution.steps.errors import BrokenEvidenceError, InvalidPlanError, StoredOutputError
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
from execution.steps.output_store import OutputFolder, OutputStore
from execution.steps.verify import VerifiedBundle, verify_bundle

if TYPE_CHECKING:
    from execution.steps.coordinated import CoordinatedJobExecutor, create_coordinated_executor
    from execution.steps.coordination_errors import (
        JobIdReusedError,
        JobInProgressError,
        JobNotRecordedError,
        NoServiceError,
        ScopeExpiredError,
        ScopeNotFoundError,
        ScopeOfOtherActionError,
        ScopeOfOtherIncidentError,
        ScopeOfOtherTenantError,
        ScopeRefusedError,
        ScopeRequiredError,
        ScopeRiskTooLowError,
        ScopeUsedUpError,
    )
    from execution.steps.coordinator import ExecutionCoordinator
    from execution.steps.current_service import using_service
    from execution.steps.handlers import awaited_handlers, capability_handlers, production_handlers
    from execution.steps.health import ServiceHealthObserver
    from execution.steps.risk import RiskClass, RiskTable
    from execution.steps.scope_gate import ScopedAction

_HOMES = {
    "CoordinatedJobExecutor": "execution.steps.coordinated",
    "ExecutionCoordinator": "execution.steps.coordinator",
    "JobIdReusedError": "execution.steps.coordination_errors",
    "JobInProgressError": "execution.steps.coordination_errors",
    "JobNotRecordedError": "execution.steps.coordination_errors",
    "NoServiceError": "execution.steps.coordination_errors",
    "RiskClass": "execution.steps.risk",
    "RiskTable": "execution.steps.risk",
    "ScopeExpiredError": "execution.steps.coordination_errors",
    "ScopeNotFoundError": "execution.steps.coordination_errors",
    "ScopeOfOtherActionError": "execution.steps.coordination_errors",
    "ScopeOfOtherIncidentError": "execution.steps.coordination_errors",
    "ScopeOfOtherTenantError": "execution.steps.coordination_errors",
    "ScopeRefusedError": "execution.steps.coordination_errors",
    "ScopeRequiredError": "execution.steps.coordination_errors",
    "ScopeRiskTooLowError": "execution.steps.coordination_errors",
    "ScopeUsedUpError": "execution.steps.coordination_errors",
    "ScopedAction": "execution.steps.scope_gate",
    "ServiceHealthObserver": "execution.steps.health",
    "awaited_handlers": "execution.steps.handlers",
    "capability_handlers": "execution.steps.handlers",
    "create_coordinated_executor": "execution.steps.coordinated",
    "production_handlers": "execution.steps.handlers",
    "using_service": "execution.steps.current_service",
}
"""What stands on the service: imported when it is first used, since the machine and its evidence need none."""

__all__ = [
    "EXECUTOR_VERSION",
    "AsyncStepHandler",
    "Bounds",
    "BrokenEvidenceError",
    "CoordinatedJobExecutor",
    "ExecutionContext",
    "ExecutionCoordinator",
    "ExecutionResult",
    "FailingHandler",
    "HandlerIdentity",
    "HealthObserver",
    "InvalidPlanError",
    "JobExecutor",
    "JobIdReusedError",
    "JobInProgressError",
    "JobNotRecordedError",
    "JobStatus",
    "JobStep",
    "NoOpHandler",
    "NoServiceError",
    "OutputFolder",
    "OutputStore",
    "RiskClass",
    "RiskTable",
    "ScopeExpiredError",
    "ScopeNotFoundError",
    "ScopeOfOtherActionError",
    "ScopeOfOtherIncidentError",
    "ScopeOfOtherTenantError",
    "ScopeRefusedError",
    "ScopeRequiredError",
    "ScopeRiskTooLowError",
    "ScopeUsedUpError",
    "ScopedAction",
    "ServiceHealthObserver",
    "StepHandler",
    "StepOutput",
    "StepResult",
    "StepStatus",
    "StoredOutput",
    "StoredOutputError",
    "VerifiedBundle",
    "awaited_handlers",
    "capability_handlers",
    "create_coordinated_executor",
    "create_default_executor",
    "evidence_bundle",
    "execution_result_to_evidence",
    "interrupted_result",
    "production_handlers",
    "stored_output",
    "thaw",
    "using_service",
    "verify_bundle",
]


def __getattr__(name: str) -> Any:
    """Import a name of the coordinated form where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
