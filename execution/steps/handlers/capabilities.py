"""`capability_enable` and `capability_disable`: what a tenant may do from now on, in PostgreSQL."""

from __future__ import annotations

from typing import Protocol

from execution.repository.capabilities import Capability, CapabilityChange
from execution.shielded import to_its_end
from execution.steps.handlers.parameters import StepParameters, parameters_of, target_of
from execution.steps.handlers.refusals import InvalidStepError
from execution.steps.model import ExecutionContext, JobStep, StepOutput

LONGEST_NAME = 200


class Capabilities(Protocol):
    """Where capabilities are kept."""

    async def apply(self, change: CapabilityChange) -> Capability | None:
        """Make the change and record it; None if it was so already. Making it twice must do no harm."""


class NoParameters(StepParameters):
    """None: the target says it all."""


class CapabilityHandler:
    """Enables, or disables, the capability that the step's target names, for one tenant. Twice does no harm.

    Parameters: none. Output: `capability`, `enabled`, `changed` (false: it was so already, and nothing was recorded).
    """

    version = "1"
    idempotent = True

    def __init__(self, capabilities: Capabilities, tenant_id: str, *, enabled: bool) -> None:
        self.name = "capability_enable" if enabled else "capability_disable"
        self._capabilities = capabilities
        self._tenant_id = tenant_id
        self._enabled = enabled

    async def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        """Change it; cancelled, it is changed all the same.

        Raises:
            InvalidStepError, DatabaseError
        """
        name = target_of(step, "the name of a capability")
        if len(name) > LONGEST_NAME:
            raise InvalidStepError(step.step_type, f"the name of a capability has at most {LONGEST_NAME} characters")
        parameters_of(step, NoParameters)
        change = CapabilityChange(
            tenant_id=self._tenant_id,
            name=name,
            enabled=self._enabled,
            changed_by=context.executed_by,
            job_id=context.job_id,
            contract_id=context.contract_id,
        )
        changed = await to_its_end(self._capabilities.apply(change))
        output = {"capability": name, "enabled": self._enabled, "changed": changed is not None}
        return StepOutput(success=True, output=output)
