"""How a step ends, whoever executes it: what its handler returned or raised, as a status, an output and an error."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from execution.domain.execution import JsonObject
from execution.domain.outcome import MAX_MESSAGE_LENGTH, describe
from execution.domain.text import storable
from execution.steps.frozen import freeze_object
from execution.steps.model import JobStatus, StepOutput, StepResult, StepStatus


@dataclass(frozen=True, slots=True)
class Raised:
    """What a handler raised, told apart from what one returned."""

    exception: BaseException


class StepEnding(Struct, frozen=True, gc=False):
    """What a step ended as."""

    status: StepStatus
    output: JsonObject | None = None
    error: str | None = None


def ending_of(returned: object) -> StepEnding:
    """The ending of a step whose handler gave this."""
    if isinstance(returned, StepOutput):
        if returned.success:
            return StepEnding(StepStatus.COMPLETED, returned.output, _kept(returned.error))
        return failed(returned.error or "the handler gave no reason", returned.output)
    if isinstance(returned, Raised):
        if interrupt_of(returned.exception) is None:
            return failed(text_of(returned.exception))
        return unknown(f"cut off by {text_of(returned.exception)}; how far it came is not known")
    if inspect.iscoroutine(returned):
        returned.close()  # nobody will await it
    kind = type(returned).__name__
    return failed(f"the handler returned a value of type {kind}; it must return a StepOutput")


def without_handler(step_type: str, known: Iterable[str]) -> StepEnding:
    """The ending of a step that nobody can execute."""
    names = ", ".join(sorted(known)) or "none"
    return failed(f"No handler is registered for step type {step_type!r}; there is one for: {names}")


def failed(error: str, output: JsonObject | None = None) -> StepEnding:
    """The ending of a step that came to its end, and did not succeed."""
    return StepEnding(StepStatus.FAILED, output, _kept(error))


def unknown(error: str) -> StepEnding:
    """The ending of a step of which nobody knows how far it came."""
    return StepEnding(StepStatus.OUTCOME_UNKNOWN, error=_kept(error))


def cancelled(error: str) -> StepEnding:
    """The ending of a step that was stopped because somebody asked for it."""
    return StepEnding(StepStatus.CANCELLED, error=_kept(error))


def interrupt_of(raised: BaseException) -> BaseException | None:
    """What was raised, if it is addressed to whoever is outside of the job."""
    return None if isinstance(raised, Exception) else raised


def job_end(results: Sequence[StepResult]) -> tuple[JobStatus, str]:
    """How a job ends that nobody has cut off: as its last step did."""
    if results and not results[-1].succeeded:
        return JobStatus.FAILED, f"Step {results[-1].step_index} failed: {results[-1].error}"
    return JobStatus.COMPLETED, "All steps completed successfully"


def unseen(raised: BaseException) -> JsonObject:
    """The observation of an observer that could not see."""
    return freeze_object({"observation_error": text_of(raised)}, "the observed health")


def text_of(error: BaseException) -> str:
    """An exception as one line."""
    described = describe(error)
    return f"{described['type']}: {described['message']}"


def _kept(error: str | None) -> str | None:
    return None if error is None else storable(error[:MAX_MESSAGE_LENGTH])
