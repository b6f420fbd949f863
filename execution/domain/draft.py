"""What a decision comes to while it is made: the events so far, and the state they lead to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from execution.domain.events import Event, EventType
from execution.domain.execution import Execution, JsonObject
from execution.domain.state import ExecutionState, ExecutionStateTransitionValidator, States
from execution.domain.text import kept

_NEXT = ExecutionStateTransitionValidator.VALID_TRANSITIONS
_STATE_CHANGED, _COMPLETED = EventType.STATE_CHANGED, EventType.COMPLETED


class Refused(Exception):  # noqa: N818 - it becomes an error where the rules are called
    """The rule says no."""


class Draft:
    """The events decided so far, and the state they lead to. Each change is checked against the transition table.

    Whoever decides several commands on one execution brings it to the state after the events before the next.
    """

    __slots__ = ("actor", "events", "execution", "now", "state", "version")

    def __init__(self, execution: Execution, now: datetime, actor: str | None) -> None:
        self.execution = execution
        self.state = execution.state
        self.version = execution.version
        self.now = now if now > execution.updated_at else execution.updated_at
        self.actor = actor
        self.events: list[Event] = []

    def record(self, event_type: EventType, data: JsonObject) -> None:
        """One more event."""
        self.version += 1
        self.events.append(Event(event_type, self.version, self.now, data, self.actor))

    def change(self, new_state: ExecutionState, reason: str | None, **facts: Any) -> None:
        """A transition, with the further facts that it sets."""
        if new_state not in _NEXT[self.state]:
            raise Refused(f"{self.state} may not be followed by {new_state}")
        data = {"previous_state": self.state, "new_state": new_state, "reason": kept(reason), **facts}
        self.record(_STATE_CHANGED, data)
        self.state = new_state

    def end(self, state: ExecutionState, reason: str | None, result: Any, error: Any, **facts: Any) -> None:
        """A terminal transition and the `completed` event that tells what came of it."""
        self.change(state, reason, **facts)
        started = self.execution.started_at
        self.record(
            _COMPLETED,
            {
                "state": state,
                "result": result,
                "error": error,
                "started_at": started,
                "completed_at": self.now,
                "duration_seconds": (self.now - started).total_seconds() if started else None,
            },
        )

    def wait_again(self, reason: str, run_at: datetime, *, new_attempt: bool, **facts: Any) -> None:
        """Back to PENDING; whoever held it is fenced off by a higher epoch."""
        if new_attempt:
            facts["attempt"] = self.execution.attempt + 1
        if self.execution.is_held:
            facts["lease_epoch"] = self.execution.lease_epoch + 1
        if (limit := self.execution.schedule_to_start) is not None:
            facts["deadline"] = after(run_at, limit)
        self.change(States.PENDING, reason, run_at=run_at, **facts)


def after(moment: datetime, seconds: float) -> datetime:
    """The time so many seconds later."""
    return moment + timedelta(seconds=seconds)
