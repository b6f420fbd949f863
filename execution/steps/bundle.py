"""A bundle: the evidence of one job as one file of canonical JSON, whose parts are chained by their digests.

    {"format": "execution-evidence/1",
     "job":     {"job_id", "contract_id", "executed_by", "executor_version", "started_at", "health_before", "digest"},
     "plan":    [{"step_index", "step_type", "target", "timeout_seconds", "weight", "parameters", "digest"}, ...],
     "opening": digest of the format and the digests above: the first link
     "steps":   [{"step_index", "attempt", "inputs_digest", "handler", "executed_by", "status", "started_at",
                  "completed_at", "output", "error", "health_before", "health_after", "previous", "digest"}, ...],
     "closing": {"final_status", "final_reason", "completed_at", "health_after", "steps_executed", "steps_succeeded",
                 "steps_failed", "previous", "digest"}}

A `digest` is that of the object it stands in, without itself; `previous` is the digest of the link before. Parameters
and outputs are `{"digest", "size", "inline", "place"}`: beyond the inline bound there is a place instead of the value.
The closing's digest is the seal: whoever kept it elsewhere knows that this is the bundle of that time. Without it the
chain shows accidents and clumsy hands; somebody who writes the whole bundle anew can make the digests fit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from execution.domain.documents import DEFAULT_LIMIT
from execution.domain.execution import JsonObject
from execution.steps.canonical import canonical, digest, digest_of
from execution.steps.model import ExecutionResult, JobStep, StepResult, StoredOutput
from execution.steps.output_store import OutputStore

FORMAT = "execution-evidence/1"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much of a value is kept in a bundle, and where the rest goes."""

    inline_limit: int = DEFAULT_LIMIT
    """Bytes of canonical JSON."""
    store: OutputStore | None = None
    """None: what is too large is only measured."""


def evidence_bundle(result: ExecutionResult, bounds: Bounds | None = None) -> bytes:
    """The evidence of a job that has ended, however it ended, as the bytes of a bundle.

    Raises:
        StoredOutputError: an output beyond the inline bound cannot be stored.
    """
    bounds = bounds or Bounds()
    job, plan = _job(result), [_planned(step, bounds) for step in result.steps]
    opening = opening_of(job["digest"], [one["digest"] for one in plan])
    inputs = {step.step_index: one["digest"] for step, one in zip(result.steps, plan, strict=True)}
    steps: list[JsonObject] = []
    for one in result.step_results:
        previous = steps[-1]["digest"] if steps else opening
        steps.append(_linked(_record(one, inputs[one.step_index], bounds), previous))
    closing = _linked(_closing(result), steps[-1]["digest"] if steps else opening)
    return canonical(
        {"format": FORMAT, "job": job, "plan": plan, "opening": opening, "steps": steps, "closing": closing}
    )


def opening_of(job_digest: str, plan_digests: list[str]) -> str:
    """The first link of the chain: it binds all others to this job and this plan."""
    return digest_of({"format": FORMAT, "job": job_digest, "plan": plan_digests})


def sealed(record: JsonObject) -> JsonObject:
    """The record with its own digest."""
    return record | {"digest": digest_of(record)}


def stored_output(output: JsonObject, bounds: Bounds) -> StoredOutput | None:
    """Where an output is that is beyond the inline bound (it is stored now); None: it is within.

    Raises:
        StoredOutputError: it cannot be stored.
    """
    content = canonical(output)
    if len(content) <= bounds.inline_limit:
        return None
    place = bounds.store.keep(content) if bounds.store else None
    return StoredOutput(digest=digest(content), size=len(content), place=place)


def _linked(record: JsonObject, previous: str) -> JsonObject:
    return sealed(record | {"previous": previous})


def _job(result: ExecutionResult) -> JsonObject:
    return sealed(
        {
            "job_id": str(result.job_id),
            "contract_id": str(result.contract_id),
            "executed_by": result.executed_by,
            "executor_version": result.executor_version,
            "started_at": result.started_at.isoformat(),
            "health_before": result.health_before,
        }
    )


def _planned(step: JobStep, bounds: Bounds) -> JsonObject:
    return sealed(
        {
            "step_index": step.step_index,
            "step_type": step.step_type,
            "target": step.target,
            "timeout_seconds": step.timeout_seconds,
            "weight": step.weight,
            "parameters": _content(step.parameters, bounds),
        }
    )


def _record(result: StepResult, inputs_digest: str, bounds: Bounds) -> JsonObject:
    handler = result.handler
    return {
        "step_index": result.step_index,
        "attempt": result.attempt,
        "inputs_digest": inputs_digest,
        "handler": None if handler is None else asdict(handler),
        "executed_by": result.executed_by,
        "status": result.status.value,
        "started_at": result.started_at.isoformat(),
        "completed_at": result.completed_at.isoformat(),
        "output": _output(result, bounds),
        "error": result.error,
        "health_before": result.health_before,
        "health_after": result.health_after,
    }


def _closing(result: ExecutionResult) -> JsonObject:
    return {
        "final_status": result.final_status.value,
        "final_reason": result.final_reason,
        "completed_at": result.completed_at.isoformat(),
        "health_after": result.health_after,
        "steps_executed": result.steps_executed,
        "steps_succeeded": result.steps_succeeded,
        "steps_failed": result.steps_failed,
    }


def _output(result: StepResult, bounds: Bounds) -> Any:
    if result.stored_output is not None:
        return _elsewhere(result.stored_output)
    return None if result.output is None else _content(result.output, bounds)


def _content(value: JsonObject, bounds: Bounds) -> JsonObject:
    stored = stored_output(value, bounds)
    if stored is not None:
        return _elsewhere(stored)
    content = canonical(value)
    return {"digest": digest(content), "size": len(content), "inline": value, "place": None}


def _elsewhere(stored: StoredOutput) -> JsonObject:
    return {"digest": stored.digest, "size": stored.size, "inline": None, "place": stored.place}
