"""Reading what a step says about itself."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from execution.domain.documents import problems_of
from execution.steps.handlers.refusals import InvalidStepError
from execution.steps.model import JobStep

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""A text that the operating system can be given: it ends its texts at a NUL."""


class StepParameters(BaseModel):
    """The parameters of a step of one type; what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Parameters = TypeVar("Parameters", bound=StepParameters)


def parameters_of(step: JobStep, model: type[Parameters]) -> Parameters:
    """The step's parameters, checked.

    Raises:
        InvalidStepError: they do not fit; it says which and why, and repeats no value.
    """
    try:
        return model.model_validate(step.parameters)
    except ValidationError as error:
        raise InvalidStepError(step.step_type, problems_of(error, "parameters")) from None


def target_of(step: JobStep, what: str) -> str:
    """What the step is about.

    Raises:
        InvalidStepError: it does not say, or not so that the system could be asked for it.
    """
    if not step.target or "\x00" in step.target:
        raise InvalidStepError(step.step_type, f"its target must be {what}")
    return step.target


def time_limit(step: JobStep, longest: float) -> float:
    """Seconds the step may take: what it asks for, but never more than the service allows."""
    return min(step.timeout_seconds or longest, longest)
