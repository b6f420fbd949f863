"""One append on its way through a lane: what is to be written, and who is told what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from execution.domain.execution import Execution
from execution.errors import DuplicateExecutionError, ExecutionServiceError, OutcomeUnknownError, VersionConflict
from execution.keyed_answer import KeyedAnswer


class Claimant(Protocol):
    """A worker that an execution is created for, claimed by it. It is told what became of that, exactly once, also when
    the caller is long gone; what it is told must not raise."""

    def written(self, execution: Execution) -> None:
        """It is in the log."""

    def not_written(self) -> None:
        """It is not."""

    def in_doubt(self) -> None:
        """Nobody knows."""


class Audience(Protocol):
    """Who hears of what was written, a batch at a time and before each caller for itself."""

    def written(self, appends: Sequence[Append]) -> None:
        """They are in the log."""


class Append(Struct, eq=False, gc=False):
    """One decision to be written: its events (with time and actor in common), and the execution before and after them.

    The events are texts from the start: encoded right after they were decided they cost half of what it takes when
    their batch is made, and hundreds that wait hold one text each instead of a dozen objects.

    `lease_epoch` is given for a worker's write only, and is that of its claim. `give_up_at` is on the monotonic clock.
    """

    before: Execution | None
    execution: Execution
    events: str
    """A JSON array of `[type, data]`."""
    actor: str | None
    lease_epoch: int | None
    give_up_at: float
    done: asyncio.Future[Execution]
    command_id: UUID | None = None
    """What identifies the write in the log; without one of the caller's, that of the batch it is first sent with."""
    claimant: Claimant | None = None
    """Of a creation: who runs it at once."""
    answer: KeyedAnswer | None = None
    """What is kept under an idempotency key if the append is written, and not otherwise."""
    audience: Audience | None = None
    """Who sets off what follows from it."""
    sent: bool = False
    resent: bool = False

    @property
    def is_creation(self) -> bool:
        """Is it the execution's first append?"""
        return self.before is None

    @property
    def expected_version(self) -> int:
        """The version the decision was made on; 0 for a creation."""
        return 0 if self.before is None else self.before.version

    def refuse(self) -> None:
        """It was not written because the row was not as expected."""
        if self.claimant is not None:
            self.claimant.not_written()
        if self.done.done():
            return
        if self.is_creation:
            self.done.set_exception(DuplicateExecutionError(self.execution.id))
        else:
            self.done.set_exception(VersionConflict(self.execution.id, self.expected_version))

    def confirm(self) -> None:
        """It is in the log."""
        if self.claimant is not None:
            self.claimant.written(self.execution)
        if not self.done.done():
            self.done.set_result(self.execution)

    def fail(self, error: ExecutionServiceError) -> None:
        """It could not be written, or nobody knows."""
        if self.claimant is not None:
            if isinstance(error, OutcomeUnknownError):
                self.claimant.in_doubt()
            else:
                self.claimant.not_written()
        if not self.done.done():
            self.done.set_exception(error)
