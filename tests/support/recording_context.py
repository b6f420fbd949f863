"""A `TaskContext` for running a handler by itself: records what it reports, and can be told to stop it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from execution.domain.execution import JsonObject
from execution.domain.outcome import StopRequested


@dataclass(kw_only=True)
class RecordingContext:
    """Asks the handler to stop after `cancel_after` reports."""

    kind: str = "test"
    cancel_after: int | None = None
    execution_id: UUID = field(default_factory=uuid4)
    tenant_id: str = "default"
    agent_id: str | None = None
    task_id: str | None = None
    attempt: int = 1
    deadline: datetime | None = None
    trace_context: str | None = None
    percentages: list[float] = field(default_factory=list)
    messages: list[str | None] = field(default_factory=list)
    facts: list[tuple[str, JsonObject]] = field(default_factory=list)
    pause_points: int = 0
    stop_checks: int = 0

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt."""
        return str(self.execution_id)

    @property
    def cancelled(self) -> bool:
        """Has the handler made as many reports as it may?"""
        return self.cancel_after is not None and len(self.percentages) >= self.cancel_after

    def progress(self, percentage: float, message: str | None = None, context: JsonObject | None = None) -> None:
        """Record a report."""
        self.percentages.append(percentage)
        self.messages.append(message)

    def record(self, name: str, data: JsonObject | None = None) -> None:
        """Keep a fact."""
        self.facts.append((name, data or {}))

    async def recorded(self) -> None:
        """Nothing waits."""

    def raise_if_cancelled(self) -> None:
        """Raise `StopRequested` once `cancelled`."""
        self.stop_checks += 1
        if self.cancelled:
            raise StopRequested

    async def pause_point(self) -> None:
        """Count it; never paused."""
        self.pause_points += 1
