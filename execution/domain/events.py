"""What happened, in the past tense: the immutable entries of the log.

| type | data |
|---|---|
| `agent.execution.state_changed` | `previous_state` (null for the first event), `new_state`, `reason`, further facts |
| `agent.execution.progress` | `percentage`, `message`, `context` (the whole context, not the difference) |
| `agent.execution.completed` | `state`, `result`, `error`, `started_at`, `completed_at`, `duration_seconds` |
| `agent.execution.pause_requested` | `requested` (false: withdrawn), `reason` |
| `agent.execution.recorded` | `name` (dotted: `step.started`), `data`: a fact that changes nothing of the execution |

The further facts of a change of state are what it set: of the first event the whole `submission`; later `run_at`,
`deadline`, `attempt`, `rescues`, `lease_epoch`, `worker_id`, `idempotent`, `error` where they apply.

`data` holds what JSON can say. In an event that was just decided, times are `datetime` and ids `UUID`; in the log, and
so in an event that was read from it, they are ISO 8601 strings with offset and strings. `evolve` takes both for the
same: making those texts with every write and reading them again would be a good part of its cost. An event says all it
changes, so folding copies and never computes.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct


class EventType(StrEnum):
    """The types of entries in the log, named as consumers see them."""

    STATE_CHANGED = "agent.execution.state_changed"
    PROGRESS = "agent.execution.progress"
    COMPLETED = "agent.execution.completed"
    PAUSE_REQUESTED = "agent.execution.pause_requested"
    RECORDED = "agent.execution.recorded"

    # Like the text it is; an enum's own hash is a Python function, and is that of the member's name.
    __hash__ = str.__hash__


class Event(Struct, frozen=True, gc=False):
    """One entry of an execution's log. `version` counts 1..n without a gap within the execution."""

    type: EventType
    version: int
    occurred_at: datetime
    data: dict[str, Any]
    actor: str | None = None
