"""Evidence in the log: the bundle of a job as facts, in parts that fit, and the result that is read from it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from execution.domain.commands import Record
from execution.domain.execution import JsonObject
from execution.domain.facts import checked_fact
from execution.steps.bundle import Bounds, evidence_bundle
from execution.steps.bundle_shape import Bundle, Content, Handler, StepRecord, shaped
from execution.steps.canonical import digest, read_canonical
from execution.steps.frozen import freeze_object
from execution.steps.model import (
    ExecutionResult,
    HandlerIdentity,
    JobStatus,
    JobStep,
    StepResult,
    StepStatus,
    StoredOutput,
)

EVIDENCE_PART = "evidence.part"
EVIDENCE_LIMIT = 8_388_608
"""Bytes of a bundle that the log keeps (8 MiB)."""
_INLINE_LIMITS = (65_536, 4_096, 0)
"""Bytes of a value that stay in the bundle: less where the whole would not fit."""
_LARGEST_CHARACTER = 4
"""Bytes that a character can take in JSON: canonical JSON has nothing left to be written as an escape of six."""
_AROUND = 1_000
"""Bytes for what stands around a part."""


def evidence_facts(result: ExecutionResult, fact_limit: int) -> tuple[list[Record], JsonObject]:
    """The facts that keep the evidence, each of at most `fact_limit` bytes, and what is said of them all: `digest`,
    `size` and `parts`. What is beyond all bounds is only measured: then there are no parts."""
    bundle = _bundle_that_fits(result)
    text = bundle.decode() if len(bundle) <= EVIDENCE_LIMIT else ""
    length = max(1, (fact_limit - _AROUND) // _LARGEST_CHARACTER)
    parts = [text[start : start + length] for start in range(0, len(text), length)]
    facts = [
        checked_fact(EVIDENCE_PART, {"number": number, "of": len(parts), "text": part}, fact_limit)
        for number, part in enumerate(parts, 1)
    ]
    return facts, {"digest": digest(bundle), "size": len(bundle), "parts": len(parts)}


def joined(parts: Iterable[JsonObject]) -> bytes:
    """The bundle whose parts these are, as the facts hold them."""
    return "".join(part["text"] for part in parts).encode()


def result_from_bundle(content: bytes, plan: Sequence[JobStep]) -> ExecutionResult:
    """The result whose evidence this is, of a job with that plan.

    Raises:
        BrokenEvidenceError: it is no bundle.
    """
    bundle = shaped(read_canonical(content))
    steps = {step.step_index: step for step in plan}
    return ExecutionResult(
        job_id=bundle.job.job_id,
        contract_id=bundle.job.contract_id,
        executed_by=bundle.job.executed_by,
        executor_version=bundle.job.executor_version,
        steps=tuple(plan),
        step_results=tuple(_step_result(one, steps[one.step_index]) for one in bundle.steps),
        **_ending(bundle),
    )


def _bundle_that_fits(result: ExecutionResult) -> bytes:
    bundle = b""
    for limit in _INLINE_LIMITS:
        bundle = evidence_bundle(result, Bounds(inline_limit=limit))
        if len(bundle) <= EVIDENCE_LIMIT:
            break
    return bundle


def _ending(bundle: Bundle) -> JsonObject:
    return {
        "final_status": JobStatus(bundle.closing.final_status),
        "final_reason": bundle.closing.final_reason,
        "started_at": bundle.job.started_at,
        "completed_at": bundle.closing.completed_at,
        "health_before": _frozen(bundle.job.health_before),
        "health_after": _frozen(bundle.closing.health_after),
    }


def _step_result(record: StepRecord, step: JobStep) -> StepResult:
    return StepResult(
        step=step,
        status=StepStatus(record.status),
        started_at=record.started_at,
        completed_at=record.completed_at,
        executed_by=record.executed_by,
        handler=_identity(record.handler),
        output=_frozen(record.output.inline) if record.output else None,
        error=record.error,
        stored_output=_stored(record.output),
        attempt=record.attempt,
        health_before=_frozen(record.health_before),
        health_after=_frozen(record.health_after),
    )


def _identity(handler: Handler | None) -> HandlerIdentity | None:
    if handler is None:
        return None
    return HandlerIdentity(name=handler.name, version=handler.version, idempotent=handler.idempotent)


def _stored(output: Content | None) -> StoredOutput | None:
    if output is None or output.inline is not None:
        return None
    return StoredOutput(digest=output.digest, size=output.size, place=output.place)


def _frozen(value: JsonObject | None) -> JsonObject | None:
    return None if value is None else freeze_object(value, "evidence")
