"""The promises, each as a pure function from what was recorded to whether it was kept.

They take rows and logs as they were read from the database, and believe neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from events.envelope import Envelope
from events.facts import FACTS, Fact
from execution.domain.events import EventType
from execution.domain.evolve import fold
from execution.domain.execution import EXECUTION_FIELDS, Execution
from execution.domain.history import HistoryItem
from execution.domain.state import ExecutionState


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One execution as the database has it: its row, and its log."""

    row: Execution
    log: tuple[HistoryItem, ...]

    @property
    def states(self) -> list[str]:
        """Every state it was in, in order."""
        return [item.data["new_state"] for item in self.log if item.type == EventType.STATE_CHANGED]

    @property
    def runners(self) -> list[str]:
        """The workers that started a run of it, in order."""
        return [
            str(item.data["worker_id"])
            for item in self.log
            if item.type == EventType.STATE_CHANGED and _is_start_of_run(item)
        ]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A promise, what was seen of it, and whether it held."""

    promise: str
    seen: str
    held: bool

    def to_json(self) -> dict[str, Any]:
        """The check as one JSON object."""
        return {"promise": self.promise, "seen": self.seen, "held": self.held}


def check_at_once(records: Sequence[Recorded]) -> Check:
    """Did they run at the same time, and did all of them complete?"""
    together = _most_at_once(records)
    done = {ExecutionState.COMPLETED, ExecutionState.PARTIAL_SUCCESS}
    completed = sum(one.row.state in done for one in records)
    return Check(
        promise="several executions run at once, each to its end",
        seen=f"{completed} of {len(records)} completed, up to {together} running at the same time",
        held=completed == len(records) and together > 1,
    )


def check_cancelled(record: Recorded) -> Check:
    """Did it stop half-way, by way of CANCELLING?"""
    percentage = record.row.progress.percentage
    return Check(
        promise="cancelling is honest: CANCELLING until the handler has stopped",
        seen=f"{_path(record)}, at {percentage:.0f} %",
        held=record.states[-3:] == ["RUNNING", "CANCELLING", "CANCELLED"] and 0 < percentage < 100,
    )


def check_paused(record: Recorded) -> Check:
    """Did it stand still while it was paused, and complete afterwards?"""
    still = _stood_still(record.log)
    return Check(
        promise="a pause takes effect at a pause point, and the run goes on after it",
        seen=f"{_path(record)}, {'no' if still else 'some'} progress while paused",
        held=still and record.states[-4:] == ["RUNNING", "PAUSED", "RUNNING", "COMPLETED"],
    )


def check_stale_refused(refusal: str | None, before: Execution, after: Execution) -> Check:
    """Was the command refused, and nothing changed?"""
    return Check(
        promise="a command decided on an old version is refused, and changes nothing",
        seen=refusal or "it was accepted",
        held=refusal is not None and before == after,
    )


def check_rescued(record: Recorded, exit_code: int) -> Check:
    """Was the run of the killed worker repeated by another one, once?"""
    runners = record.runners
    return Check(
        promise="kill -9 of a worker: an idempotent execution completes elsewhere",
        seen=f"{_path(record)}, attempt {record.row.attempt}, {len(set(runners))} workers, exit code {exit_code}",
        held=(
            exit_code == -9
            and record.row.state is ExecutionState.COMPLETED
            and record.row.attempt == 2
            and len(runners) == len(set(runners)) == 2
        ),
    )


def check_not_repeated(record: Recorded, letters: Sequence[str]) -> Check:
    """Was it run once, its effect had once, and its fate admitted to be unknown?"""
    error = (record.row.error or {}).get("type")
    sent = list(letters).count(str(record.row.id))
    return Check(
        promise="kill -9 of a worker: any other execution is not run twice",
        seen=f"{record.row.state} ({error}), {len(record.runners)} run, {sent} letter in the box",
        held=(
            record.row.state is ExecutionState.FAILED
            and error == "outcome_unknown"
            and len(record.runners) == len(letters) == sent == 1
        ),
    )


def check_log_is_truth(records: Sequence[Recorded]) -> tuple[Check, list[str]]:
    """Is every row exactly the fold of its log? Also what is wrong where it is not."""
    problems = [problem for record in records for problem in deviations(record)]
    events = sum(len(record.log) for record in records)
    check = Check(
        promise="the log is the truth: folding it gives every row",
        seen=f"{events} events folded, {len(records)} rows compared, {len(problems)} deviations",
        held=bool(records) and not problems,
    )
    return check, problems


def check_published(records: Sequence[Recorded], events: Sequence[Envelope]) -> Check:
    """Is what was read from Kafka the log, in its order, once repeats are dropped as a consumer drops them?"""
    logged = {(str(record.row.id), item.version): item for record in records for item in record.log}
    last: dict[str, int] = {}
    out_of_order = repeats = 0
    for event in events:
        before = last.get(event.subject, 0)
        out_of_order += event.sequence > before + 1
        repeats += event.sequence <= before
        last[event.subject] = max(before, event.sequence)
    keys = {(event.subject, event.sequence) for event in events}
    untrue = sum(not _tells(event, logged[event.subject, event.sequence]) for event in events if _key(event) in logged)
    return Check(
        promise="what is in the log is said on Kafka, in order per execution, and nothing else is",
        seen=(
            f"{len(keys)} events of {len(last)} executions on the topic, {len(logged)} in the log, "
            f"{len(keys ^ logged.keys())} differ, {repeats} repeated, {out_of_order} out of order, {untrue} untrue"
        ),
        held=bool(logged) and keys == logged.keys() and not out_of_order and not untrue,
    )


def check_drained(exit_codes: Sequence[int]) -> Check:
    """Did the workers that were asked to stop end in order?"""
    return Check(
        promise="a worker that is asked to stop drains and ends in order",
        seen="exit codes " + ", ".join(map(str, exit_codes)),
        held=bool(exit_codes) and not any(exit_codes),
    )


def deviations(record: Recorded) -> list[str]:
    """What in the log is not as it has to be, or in the row not as the log says."""
    versions = [item.version for item in record.log]
    name = f"{record.row.kind} {record.row.id}"
    if versions != list(range(1, len(versions) + 1)):
        return [f"{name}: versions are not 1..n: {versions}"]
    try:
        folded = fold(item.to_event() for item in record.log)
    except (ValueError, KeyError) as error:
        return [f"{name}: the log cannot be folded: {error!r}"]
    return [
        f"{name}: {field} is {there!r}, the log says {logged!r}"
        for field in EXECUTION_FIELDS
        if (there := getattr(record.row, field)) != (logged := getattr(folded, field))
    ]


def _key(event: Envelope) -> tuple[str, int]:
    return event.subject, event.sequence


def _tells(event: Envelope, item: HistoryItem) -> bool:
    """Does a published event say what the log says? Times are written otherwise there."""
    own = FACTS[event.type].model_fields.keys() - Fact.model_fields.keys()
    return (event.type, event.time) == (item.type, item.occurred_at) and all(
        _same(event.data[name], item.data.get(name)) for name in own
    )


def _same(said: object, logged: object) -> bool:
    written = logged.isoformat() if isinstance(logged, datetime) else logged
    return said == written or (isinstance(written, str) and said == written.replace("+00:00", "Z"))


def _is_start_of_run(item: HistoryItem) -> bool:
    change = (item.data["previous_state"], item.data["new_state"])
    return change == (ExecutionState.PENDING, ExecutionState.RUNNING)


def _most_at_once(records: Iterable[Recorded]) -> int:
    """How many were RUNNING at the same moment, at most."""
    changes = []
    for record in records:
        for item in record.log:
            if item.type == EventType.STATE_CHANGED:
                began = item.data["new_state"] == ExecutionState.RUNNING
                ended = item.data["previous_state"] == ExecutionState.RUNNING
                changes.append((item.occurred_at, began - ended))
    most = running = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def _stood_still(log: Iterable[HistoryItem]) -> bool:
    """True if there was a pause, and no progress in it."""
    state, paused = None, False
    for item in log:
        if item.type == EventType.STATE_CHANGED:
            state = item.data["new_state"]
            paused = paused or state == ExecutionState.PAUSED
        elif item.type == EventType.PROGRESS and state == ExecutionState.PAUSED:
            return False
    return paused


def _path(record: Recorded) -> str:
    return " → ".join(record.states)
