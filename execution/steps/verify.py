"""Checks a bundle of evidence offline: are these the bytes that were recorded, and do they agree with each other?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from execution.steps.bundle import opening_of
from execution.steps.bundle_shape import Bundle, Content, StepRecord, shaped
from execution.steps.canonical import canonical, digest, digest_of, read_canonical
from execution.steps.errors import BrokenEvidenceError, StoredOutputError
from execution.steps.output_store import OutputStore


@dataclass(frozen=True, kw_only=True)
class VerifiedBundle:
    """What a bundle that holds says in short."""

    job_id: str
    final_status: str
    steps_planned: int
    steps_executed: int
    seal: str
    unchecked: tuple[str, ...]
    """Places in the bundle whose values are kept elsewhere and were not looked at."""


def verify_bundle(content: bytes, *, store: OutputStore | None = None, seal: str | None = None) -> VerifiedBundle:
    """Check every byte, every digest, every link, and that the steps obey the rules of the machine.

    `store` holds the outputs that are not inline; without it their digests stand unchecked. `seal` is the closing's
    digest as it was kept elsewhere: with it, a bundle that was written anew as a whole is found, too.

    Raises:
        BrokenEvidenceError: something does not hold; it names the first place.
    """
    raw = read_canonical(content)
    bundle = shaped(raw)
    unchecked = [place for place, one in _contents(bundle) if not _check_content(place, one, store)]
    _check_opening(raw, bundle)
    _check_chain(raw, bundle)
    _check_order(bundle)
    _check_closing(bundle)
    if seal is not None and seal != bundle.closing.digest:
        raise BrokenEvidenceError("closing.digest", f"the seal is {bundle.closing.digest}, and was to be {seal}")
    return VerifiedBundle(
        job_id=str(bundle.job.job_id),
        final_status=bundle.closing.final_status,
        steps_planned=len(bundle.plan),
        steps_executed=len(bundle.steps),
        seal=bundle.closing.digest,
        unchecked=tuple(unchecked),
    )


def _contents(bundle: Bundle) -> Iterator[tuple[str, Content]]:
    for position, planned in enumerate(bundle.plan):
        yield f"plan[{position}].parameters", planned.parameters
    for position, step in enumerate(bundle.steps):
        if step.output is not None:
            yield f"steps[{position}].output", step.output


def _check_content(place: str, kept: Content, store: OutputStore | None) -> bool:
    """Is the value what its digest says? False: it could not be looked at."""
    if kept.inline is not None:
        if kept.place is not None:
            raise BrokenEvidenceError(place, "it is said to be both here and elsewhere")
        found = canonical(kept.inline)
    elif store is None or kept.place is None:
        return False
    else:
        try:
            found = store.read(kept.place)
        except StoredOutputError as error:
            raise BrokenEvidenceError(place, f"the stored output {kept.place} is missing: {error.problem}") from None
    if digest(found) != kept.digest or len(found) != kept.size:
        raise BrokenEvidenceError(place, "the value has another digest or size than the one recorded for it")
    return True


def _check_opening(raw: Any, bundle: Bundle) -> None:
    _check_own_digest(raw["job"], "job")
    for position, planned in enumerate(raw["plan"]):
        _check_own_digest(planned, f"plan[{position}]")
    if bundle.opening != opening_of(bundle.job.digest, [one.digest for one in bundle.plan]):
        raise BrokenEvidenceError("opening", "it does not bind this job and this plan: a part was exchanged")


def _check_chain(raw: Any, bundle: Bundle) -> None:
    links = [(f"steps[{position}]", record) for position, record in enumerate(raw["steps"])]
    head = bundle.opening
    for place, record in [*links, ("closing", raw["closing"])]:
        if record["previous"] != head:
            raise BrokenEvidenceError(place, "it does not follow on what stands before it: steps are missing or moved")
        _check_own_digest(record, place)
        head = record["digest"]


def _check_own_digest(record: dict[str, Any], place: str) -> None:
    if record["digest"] != digest_of({key: value for key, value in record.items() if key != "digest"}):
        raise BrokenEvidenceError(place, "it is not what its digest was made of")


def _check_order(bundle: Bundle) -> None:
    """EXEC-001 to EXEC-003, and of a durable plan that only what did not complete was executed again."""
    done = 0
    before: StepRecord | None = None
    for position, step in enumerate(bundle.steps):
        place = f"steps[{position}]"
        planned = bundle.plan[done] if done < len(bundle.plan) else None
        if planned is None or (step.step_index, step.inputs_digest) != (planned.step_index, planned.digest):
            raise BrokenEvidenceError(place, "it is not the step that the plan has next")
        if before is not None and not before.is_completed and step.attempt <= before.attempt:
            raise BrokenEvidenceError(place, "the job went on after a step that did not complete (EXEC-003)")
        done += step.is_completed
        before = step


def _check_closing(bundle: Bundle) -> None:
    closing, completed = bundle.closing, sum(one.is_completed for one in bundle.steps)
    counted = (len(bundle.steps), completed, len(bundle.steps) - completed)
    if (closing.steps_executed, closing.steps_succeeded, closing.steps_failed) != counted:
        raise BrokenEvidenceError("closing", "its numbers are not those of the steps")
    if closing.final_status == "COMPLETED" and completed < len(bundle.plan):
        raise BrokenEvidenceError("closing", f"COMPLETED, and {len(bundle.plan) - completed} steps are not")
