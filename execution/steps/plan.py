"""A durable plan as a client submits it: the parameters of an execution of kind `steps`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from execution.domain.execution import JsonObject
from execution.domain.retry import YEAR_SECONDS
from execution.domain.text import storable
from execution.errors import InvalidDocumentError
from execution.steps.frozen import MAX_SAFE_INTEGER
from execution.steps.model import JobStep

KIND = "steps"
MAX_STEPS = 1000
NO_CONTRACT = UUID(int=0)
"""The contract of a plan that names none."""

_EXAMPLE: JsonObject = {
    "steps": [
        {"id": "search", "step_type": "capability_enable", "target": "search", "weight": 3},
        {"id": "wait", "step_type": "noop"},
    ]
}


class PlannedStep(BaseModel):
    """One step as it is declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = Field(
        default=None, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$", description="What people call it; once in a plan."
    )
    step_type: str = Field(min_length=1, max_length=200, description="Names its handler.", examples=["noop"])
    target: str = Field(default="", max_length=2000, description="What it is about.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="What its handler is given.")
    timeout_seconds: Annotated[float, Field(gt=0, le=YEAR_SECONDS)] | None = Field(
        default=None, description="How long it may take; a blocking handler has to keep to it by itself."
    )
    weight: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=1.0, description="Its share of the progress, in proportion to the other steps' weights."
    )

    @field_validator("step_type", "target")
    @classmethod
    def _text_can_be_stored(cls, text: str) -> str:
        if storable(text) != text:
            raise ValueError("it contains a character that cannot be stored")
        return text

    @field_validator("parameters")
    @classmethod
    def _parameters_are_exact(cls, parameters: JsonObject) -> JsonObject:
        """What the log gives back has to be what was said: PostgreSQL does not tell 1e16 from 10000000000000000."""
        try:
            JobStep(0, "any", parameters=parameters)
        except InvalidDocumentError as error:  # which step it is stands before it
            raise ValueError(error.problem) from None
        if any(abs(number) > MAX_SAFE_INTEGER for number in _numbers(parameters)):
            raise ValueError("it holds a number beyond ±(2^53 - 1), where JSON is no longer exact; make a text of it")
        return parameters


class Plan(BaseModel):
    """Steps, to be carried out in this order, each at most once unless its handler says that twice does no harm."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    contract_id: UUID | None = Field(default=None, description="The contract that the steps are executed under.")
    # No tuple: of one with a step that is refused pydantic says that it is too short, too.
    steps: Annotated[list[PlannedStep], Field(min_length=1, max_length=MAX_STEPS)]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        counts = Counter(step.id for step in self.steps if step.id is not None)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"several steps have the id {twice[0]!r}; give each one of its own, or none")
        return self

    def job_steps(self) -> tuple[JobStep, ...]:
        """The steps as whoever executes them takes them."""
        return tuple(
            JobStep(index, one.step_type, one.target, one.parameters, one.timeout_seconds, one.weight)
            for index, one in enumerate(self.steps)
        )


def plan_of(step_types: Collection[str]) -> type[Plan]:
    """The model of plans of these step types: a plan that names another one is refused when it is submitted."""

    class PlanOfKnownSteps(Plan):
        __doc__ = Plan.__doc__

        @model_validator(mode="after")
        def _step_types_are_known(self) -> Self:
            for index, step in enumerate(self.steps):
                if step.step_type not in step_types:
                    known = ", ".join(sorted(step_types))
                    raise ValueError(f"steps.{index}.step_type: nobody executes {step.step_type!r}; there is: {known}")
            return self

    return PlanOfKnownSteps


def _numbers(value: Any) -> list[float]:
    level, found = [value], []
    while level:
        one = level.pop()
        if isinstance(one, dict):
            level.extend(one.values())
        elif isinstance(one, list | tuple):
            level.extend(one)
        elif isinstance(one, int | float):
            found.append(one)
    return found
