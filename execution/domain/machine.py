"""The state machine as its callers use it: commands on an execution, the events they lead to, the execution after."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from execution.domain.commands import Claim, Command, Create
from execution.domain.creation import created
from execution.domain.decide import take
from execution.domain.draft import Draft
from execution.domain.events import Event
from execution.domain.evolve import EFFECTS, fold, stamp
from execution.domain.execution import Execution


def begin(
    command: Create, now: datetime, actor: str | None = None, *, claim: Claim | None = None
) -> tuple[Execution, list[Event]]:
    """A new execution, claimed at once if there is a claim, and its events; errors as `created`."""
    events = created(command, now, actor, claim)
    return fold(events), events


def carry_out(
    before: Execution, commands: Sequence[Command], now: datetime, actor: str | None = None
) -> tuple[Execution, list[Event]]:
    """Decide one command after the other, each on what the ones before it lead to.

    Returns the execution after them all and their events; `before` itself and none if everything is so already.

    Raises:
        InvalidExecutionStateError: as `decide`; then none of the commands counts.
    """
    after = before.copied()
    draft = Draft(after, now, actor)
    events = draft.events
    for command in commands:
        known = len(events)
        take(draft, command)
        for event in events[known:]:
            EFFECTS[event.type](after, event)
    if not events:
        return before, events
    stamp(after, events[-1])
    return after, events
