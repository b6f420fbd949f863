"""`decide`: which events a command leads to, or why it is refused. No I/O, no clock, no chance: they are handed in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from execution.domain.commands import (
    Cancel,
    ChangeState,
    Claim,
    Command,
    Create,
    Expire,
    Finish,
    Pause,
    ReachPausePoint,
    Record,
    Release,
    ReportProgress,
    Rescue,
    Resume,
    Retry,
    Start,
)
from execution.domain.creation import created, facts_of_claim
from execution.domain.draft import Draft, Refused, after
from execution.domain.events import Event, EventType
from execution.domain.execution import Execution, JsonObject
from execution.domain.outcome import Cancelled, Failed, GivenBack, Interrupted, PartiallySucceeded, Succeeded
from execution.domain.state import HELD_STATES, TERMINAL_STATES, States
from execution.domain.text import kept
from execution.errors import InvalidExecutionStateError

S = States
_PROGRESS = EventType.PROGRESS
_CUT = (Interrupted, GivenBack)
"""How a run ends that was not let to its end."""


def decide(execution: Execution | None, command: Command, now: datetime, actor: str | None = None) -> list[Event]:
    """The events that carry out `command`; an empty list if what it asks for is so already.

    Raises:
        InvalidExecutionStateError: the state machine refuses; it names the commands that are allowed.
    """
    if execution is None:
        if not isinstance(command, Create):
            raise ValueError(f"{command.name!r} needs an execution")
        return created(command, now, actor)
    draft = Draft(execution, now, actor)
    take(draft, command)
    return draft.events


def take(draft: Draft, command: Command) -> None:
    """Add the events that carry out one more command to a draft; errors as `decide`."""
    try:
        _RULES[type(command)](draft, command)
    except Refused as refused:
        execution = draft.execution
        raise InvalidExecutionStateError(
            execution.id,
            command.name,
            state=execution.state,
            version=execution.version,
            allowed=allowed_commands(execution),
            why=str(refused),
        ) from None


def allowed_commands(execution: Execution) -> list[str]:
    """The names of the public commands that the execution would accept now."""
    return [command.name for command in _PUBLIC if _accepts(execution, command)]


def _create_again(draft: Draft, command: Create) -> None:
    raise Refused("it exists already")


def _start(draft: Draft, command: Start) -> None:
    if draft.state is not S.CREATED:
        raise Refused("only a CREATED execution can be started")
    draft.wait_again(command.reason or "started", max(draft.now, draft.execution.run_at), new_attempt=False)


def _cancel(draft: Draft, command: Cancel) -> None:
    if draft.state is S.CANCELLING:
        return
    if draft.state is S.RUNNING or draft.execution.is_held:
        draft.change(S.CANCELLING, command.reason, deadline=after(draft.now, command.grace))
    else:
        draft.end(S.CANCELLED, command.reason, None, None)


def _pause(draft: Draft, command: Pause) -> None:
    if draft.state is S.RUNNING:
        if not draft.execution.pause_requested:
            draft.record(EventType.PAUSE_REQUESTED, {"requested": True, "reason": kept(command.reason)})
    elif draft.state is not S.PAUSED:
        draft.change(S.PAUSED, command.reason)


def _resume(draft: Draft, command: Resume) -> None:
    execution = draft.execution
    if draft.state is S.RUNNING and execution.pause_requested:
        draft.record(EventType.PAUSE_REQUESTED, {"requested": False, "reason": kept(command.reason)})
    elif draft.state is not S.PAUSED:
        raise Refused("it is not paused")
    elif execution.is_held:
        draft.change(S.RUNNING, command.reason, **_running_deadline(execution, draft.now))
    else:
        draft.wait_again(command.reason or "resumed", max(draft.now, execution.run_at), new_attempt=False)


def _retry(draft: Draft, command: Retry) -> None:
    if draft.state not in {S.FAILED, S.CANCELLED}:
        raise Refused("only a FAILED or CANCELLED execution can be retried")
    draft.wait_again(command.reason or "retried", draft.now, new_attempt=True)


def _claim(draft: Draft, command: Claim) -> None:
    execution = draft.execution
    if draft.state is not S.PENDING or execution.run_at > draft.now:
        raise Refused("only a PENDING execution that is due can be claimed")
    facts = facts_of_claim(command, execution.lease_epoch + 1, execution.start_to_close, draft.now)
    draft.change(S.RUNNING, None, **facts)


def _report_progress(draft: Draft, command: ReportProgress) -> None:
    if draft.state is not S.RUNNING:
        raise Refused("only a RUNNING execution reports progress")
    known = draft.execution.progress
    # A report that was overtaken by a later one must not turn the bar back.
    reached = command.percentage if command.percentage > known.percentage else known.percentage
    message = command.message if command.message is not None else known.message
    context = known.context | command.context if command.context else known.context
    if reached != known.percentage or message != known.message or context != known.context:
        draft.record(_PROGRESS, {"percentage": reached, "message": message, "context": context})


def _record(draft: Draft, command: Record) -> None:
    if draft.state in TERMINAL_STATES:
        raise Refused("its log is closed with its end")
    draft.record(EventType.RECORDED, {"name": command.fact, "data": command.data})


def _finish(draft: Draft, command: Finish) -> None:
    waits_at_pause_point = draft.state is S.PAUSED and draft.execution.is_held
    is_cut = isinstance(command.outcome, _CUT)
    if draft.state not in HELD_STATES and not (waits_at_pause_point and is_cut):
        raise Refused("no run of it is open")
    facts = {} if command.by_holder else {"lease_epoch": draft.execution.lease_epoch + 1}
    match command.outcome:
        case Succeeded(result=result):
            draft.end(S.COMPLETED, None, result, None, **facts)
        case PartiallySucceeded(result=result, error=error):
            draft.end(S.PARTIAL_SUCCESS, None, result, error, **facts)
        case Failed(error=error):
            _fail(draft, error, command.chance, facts)
        case Cancelled(reason=reason):
            _stopped(draft, reason, facts)
        case Interrupted(reason=reason):
            _interrupted(draft, reason)
        case GivenBack(reason=reason):
            _give_back(draft, reason, draft.now, facts)


def _stopped(draft: Draft, reason: str | None, facts: JsonObject) -> None:
    if draft.state is S.CANCELLING:
        draft.end(S.CANCELLED, reason, None, None, **facts)
    else:
        error = {"type": "cancelled", "message": reason or "the handler stopped without being asked to"}
        draft.end(S.FAILED, reason, None, error, **facts)


def _fail(draft: Draft, error: JsonObject, chance: float, facts: JsonObject) -> None:
    execution = draft.execution
    policy = execution.retry_policy
    if draft.state is S.RUNNING and policy and policy.allows(execution.attempt, str(error.get("type"))):
        seconds = policy.delay(execution.attempt, chance)
        reason = f"attempt {execution.attempt} of {policy.max_attempts} failed; next in {seconds:.1f} s"
        draft.wait_again(reason, draft.now + timedelta(seconds=seconds), new_attempt=True, error=error)
    else:
        draft.end(S.FAILED, error.get("type"), None, error, **facts)


def _interrupted(draft: Draft, reason: str, rescues: int | None = None) -> None:
    """The run was cut off: run again what is declared idempotent, and admit of the rest that nobody knows."""
    execution = draft.execution
    facts: JsonObject = {} if rescues is None else {"rescues": rescues}
    if draft.state is S.CANCELLING:
        error = {"type": "abandoned", "message": reason}
        draft.end(S.CANCELLED, reason, None, error, lease_epoch=execution.lease_epoch + 1, **facts)
    elif execution.idempotent:
        was_paused = draft.state is S.PAUSED
        draft.wait_again(reason, draft.now, new_attempt=True, **facts)
        if was_paused:
            draft.change(S.PAUSED, reason)
    else:
        error = {"type": "outcome_unknown", "message": reason}
        draft.end(S.FAILED, reason, None, error, lease_epoch=execution.lease_epoch + 1, **facts)


def _reach_pause_point(draft: Draft, command: ReachPausePoint) -> None:
    if draft.state is S.RUNNING and draft.execution.pause_requested:
        draft.change(S.PAUSED, "the handler reached a pause point")


def _release(draft: Draft, command: Release) -> None:
    if draft.state not in HELD_STATES:
        raise Refused("no run of it is open")
    _give_back(draft, command.reason or "released", draft.execution.run_at, {})


def _give_back(draft: Draft, reason: str, run_at: datetime, revoked: JsonObject) -> None:
    """Back to where any worker can take it, as the same attempt; what somebody has asked of it holds on."""
    if draft.state is S.CANCELLING:
        draft.end(S.CANCELLED, reason, None, None, **revoked)
        return
    is_to_pause = draft.state is S.PAUSED or draft.execution.pause_requested
    draft.wait_again(reason, run_at, new_attempt=False)
    if is_to_pause:
        draft.change(S.PAUSED, reason)


def _rescue(draft: Draft, command: Rescue) -> None:
    execution = draft.execution
    if execution.worker_id != command.worker_id:
        return
    rescues = execution.rescues + 1
    reason = f"worker {command.worker_id} died"
    if execution.idempotent and rescues > command.max_rescues and draft.state is not S.CANCELLING:
        error = {"type": "outcome_unknown", "message": f"{reason}, after {execution.rescues} rescues"}
        draft.end(S.FAILED, reason, None, error, lease_epoch=execution.lease_epoch + 1, rescues=rescues)
    else:
        _interrupted(draft, reason, rescues)


def _expire(draft: Draft, command: Expire) -> None:
    execution = draft.execution
    if execution.deadline is None or execution.deadline > draft.now:
        return
    fence = {"lease_epoch": execution.lease_epoch + 1}
    match draft.state:
        case S.PENDING:
            error = {"type": "schedule_to_start_timeout", "message": "no worker took it in time"}
            draft.end(S.FAILED, "schedule_to_start_timeout", None, error)
        case S.RUNNING:
            error = {"type": "start_to_close_timeout", "message": "the attempt ran past its limit and did not stop"}
            draft.end(S.FAILED, "start_to_close_timeout", None, error, **fence)
        case S.CANCELLING:
            error = {"type": "abandoned", "message": "the handler did not stop before the cancellation deadline"}
            draft.end(S.CANCELLED, "abandoned", None, error, **fence)
        case _:
            raise Refused("its state has no time limit")


def _change_state(draft: Draft, command: ChangeState) -> None:
    reason = command.reason
    match command.target:
        case S.PENDING:
            _wait(draft, reason)
        case S.RUNNING if draft.state is S.PENDING:
            # Driven from outside: no worker holds it, and any that did is fenced off.
            epoch = draft.execution.lease_epoch + 1
            draft.change(S.RUNNING, reason, lease_epoch=epoch, **_running_deadline(draft.execution, draft.now))
        case S.RUNNING:
            _resume(draft, Resume(reason=reason))
        case S.PAUSED:
            _pause(draft, Pause(reason=reason))
        case S.CANCELLING if draft.state is S.PAUSED and not draft.execution.is_held:
            raise Refused("nothing of it runs that could be asked to stop; cancel it")
        case S.CANCELLING:
            draft.change(S.CANCELLING, reason, deadline=after(draft.now, command.grace))
        case target if target not in TERMINAL_STATES:
            draft.change(target, reason)
        case _:
            revoked = {"lease_epoch": draft.execution.lease_epoch + 1} if draft.execution.is_held else {}
            error = command.error
            if command.target is S.FAILED and error is None:
                error = {"type": "failed", "message": reason or "ended by change_state"}
            draft.end(command.target, reason, command.result, error, **revoked)


def _wait(draft: Draft, reason: str | None) -> None:
    match draft.state:
        case S.CREATED:
            _start(draft, Start(reason=reason))
        case S.PAUSED:
            _resume(draft, Resume(reason=reason))
        case S.FAILED | S.CANCELLED:
            _retry(draft, Retry(reason=reason))
        case S.RUNNING:
            raise Refused("only its worker or the rescuer gives back what runs")
        case _:
            draft.wait_again(reason or "waits again", draft.now, new_attempt=False)


def _running_deadline(execution: Execution, now: datetime) -> JsonObject:
    return {} if execution.start_to_close is None else {"deadline": after(now, execution.start_to_close)}


_RULES: dict[type, Callable[[Draft, Any], None]] = {
    Create: _create_again,
    Start: _start,
    Cancel: _cancel,
    Pause: _pause,
    Resume: _resume,
    Retry: _retry,
    Claim: _claim,
    ReportProgress: _report_progress,
    Record: _record,
    Finish: _finish,
    ReachPausePoint: _reach_pause_point,
    Release: _release,
    Rescue: _rescue,
    Expire: _expire,
    ChangeState: _change_state,
}

_PUBLIC: tuple[Command, ...] = (
    Start(),
    Cancel(),
    Pause(),
    Resume(),
    Retry(),
    ReportProgress(percentage=100.0),
    Finish(outcome=Succeeded(result={})),
)


def _accepts(execution: Execution, command: Command) -> bool:
    try:
        _RULES[type(command)](Draft(execution, execution.updated_at, None), command)
    except Refused:
        return False
    return True
