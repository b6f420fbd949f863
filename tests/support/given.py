"""Executions in every situation, brought there as the service does it: by commands and claims, folded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import orjson

from execution.domain.commands import Cancel, Command, Create, Finish, Pause, ReachPausePoint
from execution.domain.decide import decide
from execution.domain.events import Event, EventType
from execution.domain.evolve import evolve
from execution.domain.execution import Execution
from execution.domain.outcome import Failed, PartiallySucceeded, Succeeded
from execution.domain.state import ExecutionState
from execution.ids import new_id

T0 = datetime(2025, 6, 1, 12, tzinfo=UTC)
WORKER = UUID("01970000-0000-7000-8000-000000000001")
OTHER_WORKER = UUID("01970000-0000-7000-8000-000000000002")
BOOM = {"type": "Boom", "message": "it broke"}


def at(seconds: float) -> datetime:
    """A time so many seconds after `T0`."""
    return T0 + timedelta(seconds=seconds)


def as_read(event: Event) -> Event:
    """The event as it comes back from the log: what it holds went through JSON."""
    return msgspec.structs.replace(event, data=orjson.loads(orjson.dumps(event.data, default=str)))


@dataclass
class Log:
    """One execution's log as it grows, and its fold."""

    appends: list[list[Event]] = field(default_factory=list)
    """The events decision by decision, as they are appended."""
    folded: Execution | None = None

    @property
    def events(self) -> list[Event]:
        return [event for events in self.appends for event in events]

    @property
    def execution(self) -> Execution:
        assert self.folded is not None
        return self.folded

    def do(self, command: Command, now: datetime = T0, actor: str | None = None) -> list[Event]:
        """Decide a command and append what comes of it."""
        return self.extend(decide(self.folded, command, now, actor))

    def claim(self, now: datetime = T0, *, worker_id: UUID = WORKER, idempotent: bool = False) -> list[Event]:
        """A worker takes it: the event that the statement `claim_executions` writes."""
        before = self.execution
        now = max(now, before.updated_at)
        limit = before.start_to_close
        data: dict[str, Any] = {
            "previous_state": "PENDING",
            "new_state": "RUNNING",
            "reason": None,
            "worker_id": str(worker_id),
            "lease_epoch": before.lease_epoch + 1,
            "idempotent": idempotent,
        }
        if limit is not None:
            data["deadline"] = (now + timedelta(seconds=limit)).isoformat()
        return self.extend([Event(EventType.STATE_CHANGED, before.version + 1, now, data, f"worker:{worker_id}")])

    def extend(self, events: list[Event]) -> list[Event]:
        for event in events:
            self.folded = evolve(self.folded, event)
        if events:
            self.appends.append(events)
        return events


def submission(**changes: Any) -> Create:
    """A `create` command of kind `noop`, with a new id unless one is given."""
    values: dict[str, Any] = {"id": new_id(), "tenant_id": "default", "kind": "noop"}
    return Create(**values | changes)


def created(**changes: Any) -> Log:
    log = Log()
    log.do(submission(start=False, **changes))
    return log


def pending(**changes: Any) -> Log:
    log = Log()
    log.do(submission(**changes))
    return log


def running(*, idempotent: bool = False, **changes: Any) -> Log:
    log = pending(**changes)
    log.claim(idempotent=idempotent)
    return log


def asked_to_pause(*, idempotent: bool = False, **changes: Any) -> Log:
    """RUNNING, with a pause requested that its handler has not reached."""
    log = running(idempotent=idempotent, **changes)
    log.do(Pause())
    return log


def paused(**changes: Any) -> Log:
    """PAUSED while it waited: nobody holds it."""
    log = pending(**changes)
    log.do(Pause())
    return log


def paused_held(*, idempotent: bool = False, **changes: Any) -> Log:
    """PAUSED at its handler's pause point: the worker still holds it."""
    log = asked_to_pause(idempotent=idempotent, **changes)
    log.do(ReachPausePoint())
    return log


def cancelling(*, idempotent: bool = False, **changes: Any) -> Log:
    log = running(idempotent=idempotent, **changes)
    log.do(Cancel())
    return log


def completed(**changes: Any) -> Log:
    log = running(**changes)
    log.do(Finish(outcome=Succeeded(result={"answer": 42})))
    return log


def partly_succeeded(**changes: Any) -> Log:
    log = running(**changes)
    log.do(Finish(outcome=PartiallySucceeded(result={"answer": 4})))
    return log


def failed(*, idempotent: bool = False, **changes: Any) -> Log:
    log = running(idempotent=idempotent, **changes)
    log.do(Finish(outcome=Failed(error=BOOM)))
    return log


def cancelled(**changes: Any) -> Log:
    log = pending(**changes)
    log.do(Cancel())
    return log


SITUATIONS: dict[str, Callable[..., Log]] = {
    "created": created,
    "pending": pending,
    "running": running,
    "asked": asked_to_pause,
    "paused": paused,
    "held": paused_held,
    "cancelling": cancelling,
    "completed": completed,
    "partial": partly_succeeded,
    "failed": failed,
    "cancelled": cancelled,
}
"""Every situation the rules distinguish: the states, and within RUNNING and PAUSED what else decides."""

STATE_OF = {
    "created": ExecutionState.CREATED,
    "pending": ExecutionState.PENDING,
    "running": ExecutionState.RUNNING,
    "asked": ExecutionState.RUNNING,
    "paused": ExecutionState.PAUSED,
    "held": ExecutionState.PAUSED,
    "cancelling": ExecutionState.CANCELLING,
    "completed": ExecutionState.COMPLETED,
    "partial": ExecutionState.PARTIAL_SUCCESS,
    "failed": ExecutionState.FAILED,
    "cancelled": ExecutionState.CANCELLED,
}
