"""Eager starts: what is submitted in the process of a worker with free slots is recorded as started by it at once.

Then nobody has to find it, lock it and change it again: the statement that creates it also gives it its first lease,
and its handler runs one commit after the submission. The log is the same, event by event, as if it had been claimed.

    submission ──reserve──► a slot of the worker ──► create_executions (live workers only) ──► written: the run begins
                                                                                           └─► otherwise: slot free

It jumps no queue: nothing is taken while the worker's last claim left anything behind, and the slots that a claim under
way has asked for are the claim's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from uuid import UUID

import structlog
from msgspec import Struct

from execution.background_manager import BackgroundTaskManager
from execution.domain.commands import Claim, Create
from execution.domain.execution import Execution

log = structlog.get_logger(__name__)


class EagerStart(Struct, eq=False, gc=False):
    """One slot that is kept for one execution until it is known what became of its creation."""

    starts: EagerStarts
    execution_id: UUID
    claim: Claim
    start_by: float

    def written(self, execution: Execution) -> None:
        """It is in the log as claimed: its handler begins."""
        self.starts.begin(self, execution)

    def not_written(self) -> None:
        """There is nothing to start."""
        self.starts.settle(self)

    def in_doubt(self) -> None:
        """Nobody knows whether it was written."""
        self.starts.give_up(self)


class EagerStarts:
    """What one worker takes without a claim.

    Args:
        kinds: the kinds it runs, and whether each is idempotent.
        begin: starts the run of an execution, no later than a time on the monotonic clock without looking again.
        doubt: told when the worker may hold an execution that it does not run.
        trust_seconds: how long after a slot was reserved nobody can have declared the worker dead.
    """

    def __init__(
        self,
        kinds: Mapping[str, bool],
        tasks: BackgroundTaskManager,
        *,
        begin: Callable[[Execution, float], None],
        doubt: Callable[[], None],
        trust_seconds: float,
    ) -> None:
        self._kinds = kinds
        self._tasks = tasks
        self._begin = begin
        self._doubt = doubt
        self._trust_seconds = trust_seconds
        self._coming: set[UUID] = set()
        self._doubted: set[UUID] = set()
        self._claims: dict[str, Claim] = {}
        self._settled = asyncio.Event()
        self.nothing_waits = False
        """Did the last claim find less than it asked for?"""
        self.asked = 0
        """Slots that a claim under way has asked for."""
        self.taken = 0
        """Executions started this way."""

    def take_for(self, worker_id: UUID | None) -> None:
        """From now on in the name of this worker; None: nothing more is taken."""
        self._claims = (
            {kind: Claim(worker_id=worker_id, idempotent=idempotent) for kind, idempotent in self._kinds.items()}
            if worker_id is not None
            else {}
        )

    @property
    def free_slots(self) -> int:
        """The worker's free slots that are kept for nobody."""
        return max(0, self._tasks.free_slots - len(self._coming))

    def is_coming(self, execution_id: UUID) -> bool:
        """Is it held by the worker, or about to be, while its run has not begun?"""
        return execution_id in self._coming

    def reserve(self, command: Create) -> EagerStart | None:
        """A slot for an execution that may run at once; None if it has to wait for a claim."""
        claim = self._claims.get(command.kind)
        if claim is None or not self.nothing_waits or not command.start or command.run_at is not None:
            return None
        if self.free_slots <= self.asked or command.id in self._coming:
            return None
        self._coming.add(command.id)
        return EagerStart(self, command.id, claim, time.monotonic() + self._trust_seconds)

    def begin(self, start: EagerStart, execution: Execution) -> None:
        """Run what was written. Never raises: it is called amid the answers to a whole batch."""
        try:
            self._begin(execution, start.start_by)
            self.taken += 1
        except Exception:
            log.exception("worker.not_begun", execution_id=str(execution.id))
            self._doubt()
        self.settle(start)

    def settle(self, start: EagerStart) -> None:
        """The slot is free, or its run's."""
        self._coming.discard(start.execution_id)
        if start.execution_id in self._doubted:
            self._doubt()  # an earlier sending of the same creation may have been written
        if not self._coming:
            self._settled.set()

    def give_up(self, start: EagerStart) -> None:
        """The worker has to look whether it holds it."""
        self._doubted.add(start.execution_id)
        self.settle(start)

    def looked(self) -> None:
        """The worker has looked at everything it holds but what is coming."""
        self._doubted &= self._coming

    async def close(self) -> None:
        """Take nothing more, and wait until it is known what became of all that was taken."""
        self.take_for(None)
        while self._coming:
            self._settled.clear()
            await self._settled.wait()
