"""Brings the kind `steps` into a service: its handlers, its health, and where large outputs go."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import cast

from execution.repository.capabilities import CapabilityStore
from execution.service import ExecutionService
from execution.steps.default_handlers import NoOpHandler
from execution.steps.health import ServiceHealthObserver
from execution.steps.output_store import OutputFolder
from execution.steps.plan import KIND, plan_of
from execution.steps.plan_health import HealthOfPlans
from execution.steps.plan_runner import PlanRunner, PlanSurroundings
from execution.steps.step_call import AnyStepHandler

PROVIDED = ("noop", "shell.command", "http.request", "files.write_atomic", "capability_enable", "capability_disable")
"""The step types that every service has; what they may do is a matter of settings."""


def register_plans(service: ExecutionService) -> None:
    """Let the service take plans, and its workers carry them out, with its own step handlers and those of its registry.

    Raises:
        ValueError: one of the registry's has the type of one of ours.
    """
    handlers = PlanHandlers(service)
    health = HealthOfPlans(ServiceHealthObserver(service))
    runner = PlanRunner(
        PlanSurroundings(
            repository=service.repository,
            handlers_of=handlers.of_tenant,
            observer=health,
            outputs=OutputFolder(service.settings.data_dir / "step-outputs"),
            document_limit=service.settings.inline_limit_bytes,
            progress_interval=service.settings.progress_interval_seconds,
        ),
        watched=health.watched,
    )
    service.registry.register(KIND, runner.run, idempotent=True, parameters_model=plan_of(handlers.step_types))


class PlanHandlers:
    """The handlers of steps, by step type."""

    def __init__(self, service: ExecutionService) -> None:
        self._settings = service.settings
        self._capabilities = CapabilityStore(service.repository.db)
        self._registered = cast(Mapping[str, AnyStepHandler], service.registry.step_handlers)
        taken = self._registered.keys() & set(PROVIDED)
        if taken:
            raise ValueError(f"step type {min(taken)!r} is the service's own; give the handler another type")
        self.step_types = (*PROVIDED, *self._registered)

    def of_tenant(self, tenant_id: str) -> dict[str, AnyStepHandler]:
        """Those of a tenant: capabilities are its own."""
        from execution.steps.handlers import capability_handlers  # noqa: PLC0415 - as below

        return {**self._shared, **capability_handlers(self._capabilities, tenant_id)}

    @cached_property
    def _shared(self) -> dict[str, AnyStepHandler]:
        # Made for the first plan: they load an HTTP client and certificates, which nobody else has to wait for.
        from execution.steps.handlers import awaited_handlers  # noqa: PLC0415

        return {"noop": NoOpHandler(), **awaited_handlers(self._settings), **self._registered}
