"""The execution itself: the fold of its events, and the shape of its row."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from execution.domain.retry import RetryPolicy
from execution.domain.state import TERMINAL_STATES, ExecutionState

JsonObject = dict[str, Any]


class Progress(Struct, frozen=True, kw_only=True, gc=False):
    """How far an execution says it is. `percentage` is 0 to 100 and never falls within one attempt."""

    percentage: float = 0.0
    message: str | None = None
    context: JsonObject = {}


NO_PROGRESS = Progress()
"""What an execution has reported before its first report."""


class Execution(Struct, frozen=True, kw_only=True, gc=False):
    """One execution at one version. Immutable; `evolve` makes the next one.

    A struct like the commands and events, and like them nothing that the cyclic garbage collector looks at: documents
    have no cycles, and a busy worker holds thousands of these.
    """

    id: UUID
    tenant_id: str
    kind: str
    state: ExecutionState
    version: int
    parameters: JsonObject
    created_at: datetime
    updated_at: datetime
    run_at: datetime
    agent_id: str | None = None
    task_id: str | None = None
    priority: int = 0
    attempt: int = 1
    rescues: int = 0
    retry_policy: RetryPolicy | None = None
    schedule_to_start: float | None = None
    """Seconds an attempt may wait as PENDING after `run_at`; None: no limit."""
    start_to_close: float | None = None
    """Seconds an attempt may run; None: no limit."""
    deadline: datetime | None = None
    """When the current state expires; what happens then is the state's own rule (`decide` of `Expire`)."""
    parent_id: UUID | None = None
    trace_context: str | None = None
    progress: Progress = NO_PROGRESS
    result: JsonObject | None = None
    error: JsonObject | None = None
    pause_requested: bool = False
    lease_epoch: int = 0
    worker_id: UUID | None = None
    idempotent: bool = False
    """Did the handler that claimed it declare that running it twice does no harm?"""
    started_at: datetime | None = None
    completed_at: datetime | None = None

    def copied(self) -> Self:
        """A copy, for `evolve` to bring to the next state before anybody else sees it."""
        return replace(self)

    @property
    def is_terminal(self) -> bool:
        """Has it ended?"""
        return self.state in TERMINAL_STATES

    @property
    def is_held(self) -> bool:
        """Does a worker hold its lease?"""
        return self.worker_id is not None

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from the start of the last attempt to its end, or None while either is missing."""
        if self.started_at is None or self.completed_at is None:
            return None
        return (self.completed_at - self.started_at).total_seconds()


EXECUTION_FIELDS = Execution.__struct_fields__
