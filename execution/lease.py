"""A worker's hold on one execution, from its claim until it ends or is taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from uuid import UUID

from msgspec import Struct

from execution.domain.commands import Command, Record
from execution.domain.execution import Execution
from execution.domain.machine import carry_out
from execution.errors import ExecutionServiceError, LeaseLost, OutcomeUnknownError, VersionConflict
from execution.repository.append import Audience
from execution.repository.repository import ExecutionRepository


class Begun(Struct, eq=False, gc=False):
    """Commands on their way to the log in one append. Whoever has begun them gives them to `settle` when it is done."""

    commands: Sequence[Command]
    written: asyncio.Future[Execution]


class Lease:
    """Writes to one execution under the epoch of its claim.

    The epoch comes from the claim and is never read again: a worker that was given up for dead may read the current
    version, but it cannot learn the epoch that would let its writes pass.
    """

    __slots__ = ("_actor", "_audience", "_doubtful", "_repository", "epoch", "execution", "is_lost", "worker_id")

    def __init__(self, repository: ExecutionRepository, execution: Execution, audience: Audience) -> None:
        if execution.worker_id is None:
            raise ValueError("only a claimed execution has a lease")
        self.execution = execution
        self.epoch = execution.lease_epoch
        self.worker_id: UUID = execution.worker_id
        self.is_lost = False
        self._repository = repository
        self._audience = audience
        self._actor = _actor(execution.worker_id)
        self._doubtful: dict[UUID, Sequence[Command]] | None = None
        """Appends with facts of which nobody knows whether they were written, by the ids they were sent with. All but
        facts is so already when it is given again."""

    async def apply(self, *commands: Command, patience: float | None = None) -> Execution:
        """Carry out commands in one append; returns the execution after them.

        What other processes did meanwhile (a cancel, a pause request) is read and decided upon. The same `Record` given
        again is not recorded twice.

        Raises:
            LeaseLost: somebody else decides over the execution now, or it has ended.
            InvalidExecutionStateError: the state machine refuses.
            DatabaseError: nothing was applied (or, for OutcomeUnknownError, nobody knows; call again to find out).
        """
        while True:
            if self._doubtful:
                commands = tuple(await self._not_recorded(commands))
            begun = self._send(commands, patience)
            if begun is None:
                return self.execution
            with suppress(ExecutionServiceError):  # `settle` raises it
                await begun.written
            try:
                return self.settle(begun)
            except VersionConflict:
                # Somebody else's command, or another write of this run: two at once need no lock but this.
                await self._refresh()

    def begin(self, commands: Sequence[Command]) -> Begun | None:
        """`apply` without a task to wait in, where nothing stands in the way; None: nothing was sent, apply them."""
        if self._doubtful:
            return None
        try:
            return self._send(commands)
        except ExecutionServiceError:
            return None

    def settle(self, begun: Begun) -> Execution:
        """Take note of what became of it, once it is done; returns the execution after it.

        Raises:
            VersionConflict: nothing was written, because something else was; apply the commands.
            DatabaseError: nothing was written (or, for OutcomeUnknownError, nobody knows).
        """
        try:
            after = begun.written.result()
        except OutcomeUnknownError as error:
            if error.command_id is not None and any(type(one) is Record for one in begun.commands):
                self._doubtful = {**(self._doubtful or {}), error.command_id: begun.commands}
            raise
        self._doubtful = None  # none of them can be written any more: they name an earlier version
        self._advance(after)
        return after

    def observe(self, current: Execution | None) -> None:
        """Take note of how the execution stands in the database, as somebody has just read it."""
        if current is None or not self._is_mine(current):
            self.is_lost = True
        else:
            self._advance(current)

    def seconds_left(self) -> float | None:
        """Seconds until the deadline of its current state, by the database's clock; None without one."""
        deadline = self.execution.deadline
        if deadline is None:
            return None
        return (deadline - self._repository.db.clock.now()).total_seconds()

    def _send(self, commands: Sequence[Command], patience: float | None = None) -> Begun | None:
        """Queue the append of what the commands lead to; None if everything is so already."""
        if self.is_lost:
            raise LeaseLost(self.execution.id, self.epoch)
        before = self.execution
        after, events = carry_out(before, commands, self._repository.db.clock.now(), self._actor)
        if not events:
            return None
        written = self._repository.append(
            before, events, after, lease_epoch=self.epoch, audience=self._audience, patience=patience
        )
        return Begun(commands, written)

    async def _not_recorded(self, commands: Sequence[Command]) -> Sequence[Command]:
        """The commands without the facts that an append of unknown outcome has written after all."""
        for command_id, doubtful in (self._doubtful or {}).items():
            if await self._repository.versions_of_command(self.execution.id, command_id):
                written = {id(one) for one in doubtful if isinstance(one, Record)}
                commands = [one for one in commands if id(one) not in written]
        await self._refresh()
        return commands

    async def _refresh(self) -> None:
        current = await self._repository.get_by_id(self.execution.id)
        if current is None or not self._is_mine(current):
            self.is_lost = True
            raise LeaseLost(self.execution.id, self.epoch)
        self._advance(current)

    def _advance(self, known: Execution) -> None:
        """Take over a newer state; what comes late of an older one does not turn back."""
        if known.version > self.execution.version:
            self.execution = known

    def _is_mine(self, current: Execution) -> bool:
        return current.lease_epoch == self.epoch and current.worker_id == self.worker_id


@lru_cache(maxsize=8)
def _actor(worker_id: UUID) -> str:
    """Who wrote it, as the log says: the text of a worker's id is asked for with each of its runs."""
    return f"worker:{worker_id}"
