"""What may be asked of an execution, in the imperative. Every one may be refused.

Structs, because a frozen dataclass takes ten times as long to make, and each execution takes several commands.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from msgspec import Struct

from execution.domain.execution import JsonObject
from execution.domain.outcome import Outcome
from execution.domain.retry import RetryPolicy
from execution.domain.state import ExecutionState


class Create(Struct, frozen=True, kw_only=True, gc=False):
    """Record a new execution; with `start` it waits for a worker at once. Limits are seconds."""

    name: ClassVar[str] = "create"
    id: UUID
    tenant_id: str
    kind: str
    parameters: JsonObject = {}
    agent_id: str | None = None
    task_id: str | None = None
    priority: int = 0
    run_at: datetime | None = None
    retry_policy: RetryPolicy | None = None
    schedule_to_start: float | None = None
    start_to_close: float | None = None
    parent_id: UUID | None = None
    trace_context: str | None = None
    start: bool = True


class Start(Struct, frozen=True, kw_only=True, gc=False):
    """Let a created execution wait for a worker."""

    name: ClassVar[str] = "start"
    reason: str | None = None


class Cancel(Struct, frozen=True, kw_only=True, gc=False):
    """Stop it: at once where no handler runs, otherwise within `grace` seconds."""

    name: ClassVar[str] = "cancel"
    reason: str | None = None
    grace: float = 30.0


class Pause(Struct, frozen=True, kw_only=True, gc=False):
    """Hold it back: at once where no handler runs, otherwise at the handler's next pause point."""

    name: ClassVar[str] = "pause"
    reason: str | None = None


class Resume(Struct, frozen=True, kw_only=True, gc=False):
    """Let a paused execution go on, or withdraw a pause that has not happened yet."""

    name: ClassVar[str] = "resume"
    reason: str | None = None


class Retry(Struct, frozen=True, kw_only=True, gc=False):
    """Try a failed or cancelled execution once more, as a new attempt."""

    name: ClassVar[str] = "retry"
    reason: str | None = None


class ReportProgress(Struct, frozen=True, kw_only=True, gc=False):
    """Record how far it is, as `checked_report` has made it. `context` is merged into what earlier reports gave."""

    name: ClassVar[str] = "report_progress"
    percentage: float
    message: str | None = None
    context: JsonObject | None = None


class Claim(Struct, frozen=True, kw_only=True, gc=False):
    """A worker takes what waits and runs it. `idempotent`: is its handler declared so? (What already waits in the
    database is claimed there, by a statement that appends the same event.)"""

    name: ClassVar[str] = "claim"
    worker_id: UUID
    idempotent: bool


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """Record a fact that changes no state, as `checked_fact` has made it. Each command is a fact of its own."""

    name: ClassVar[str] = "record"
    fact: str
    data: JsonObject


class Finish(Struct, frozen=True, kw_only=True, gc=False):
    """Record how a run ended. `chance` in 0..1 places a retry's delay within its jitter.

    `by_holder` is False when the result comes from outside: the holder's lease is then revoked.
    """

    name: ClassVar[str] = "submit_result"
    outcome: Outcome
    chance: float = 0.5
    by_holder: bool = True


class ReachPausePoint(Struct, frozen=True, kw_only=True, gc=False):
    """The handler stands at a pause point and will wait if a pause was requested."""

    name: ClassVar[str] = "reach_pause_point"


class Release(Struct, frozen=True, kw_only=True, gc=False):
    """The worker gives back a claim whose handler it has not started."""

    name: ClassVar[str] = "release"
    reason: str | None = None


class Rescue(Struct, frozen=True, kw_only=True, gc=False):
    """The worker that holds it is dead. After `max_rescues` of one execution it fails instead of running again."""

    name: ClassVar[str] = "rescue"
    worker_id: UUID
    max_rescues: int = 10


class Expire(Struct, frozen=True, kw_only=True, gc=False):
    """The deadline of its current state has passed."""

    name: ClassVar[str] = "expire"


class ChangeState(Struct, frozen=True, kw_only=True, gc=False):
    """Bring it into a state, by whichever command leads there."""

    name: ClassVar[str] = "change_state"
    target: ExecutionState
    reason: str | None = None
    grace: float = 30.0
    result: JsonObject | None = None
    error: JsonObject | None = None


Command = (
    Create
    | Start
    | Cancel
    | Pause
    | Resume
    | Retry
    | ReportProgress
    | Claim
    | Record
    | Finish
    | ReachPausePoint
    | Release
    | Rescue
    | Expire
    | ChangeState
)
