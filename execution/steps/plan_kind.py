"""Brings the kind `steps` into a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from execution.handlers import StepExecutor
from execution.service import ExecutionService
from execution.steps.default_handlers import NoOpHandler
from execution.steps.model import HealthObserver
from execution.steps.output_store import OutputFolder
from execution.steps.plan import KIND, plan_of
from execution.steps.plan_runner import HandlersOf, PlanRunner, PlanSurroundings
from execution.steps.step_call import AnyStepHandler


def register_plans(service: ExecutionService, *, observer: HealthObserver | None = None) -> None:
    """Let the service take plans, and its workers carry them out, with the step handlers of its registry."""
    handlers = _handlers(service.registry.step_handlers)
    handlers_of: HandlersOf = lambda _tenant_id: handlers  # noqa: E731
    surroundings = PlanSurroundings(
        repository=service.repository,
        handlers_of=handlers_of,
        observer=observer,
        outputs=OutputFolder(service.settings.data_dir / "step-outputs"),
        document_limit=service.settings.inline_limit_bytes,
        progress_interval=service.settings.progress_interval_seconds,
    )
    runner = PlanRunner(surroundings)
    service.registry.register(KIND, runner.run, idempotent=True, parameters_model=plan_of(tuple(handlers)))


def _handlers(registered: Mapping[str, StepExecutor]) -> dict[str, AnyStepHandler]:
    return {"noop": NoOpHandler()} | cast(dict[str, AnyStepHandler], dict(registered))
