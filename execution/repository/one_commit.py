"""Many changes and the answer that tells of them, in one transaction on a connection of its own: all, or nothing.

The lanes spread what is asked together over commits that it shares with others. That is faster, but an answer to the
whole can be committed with none of them. Whoever has lost the key that the answer is kept under has no effect either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import structlog

from execution.access_errors import IdempotencyKeyInProgressError
from execution.domain.events import Event
from execution.domain.execution import Execution
from execution.errors import DatabaseError, DatabaseUnavailableError, OutcomeUnknownError
from execution.keyed_answer import KeyedAnswer
from execution.repository.append import Append
from execution.repository.batches import answer_arguments, change, creation
from execution.repository.connections import DRIVER_ERRORS, is_connection_lost
from execution.repository.database import Database
from execution.repository.reading import fetch_row, translated
from execution.repository.records import events_to_json, execution_from_row
from execution.repository.statements import statement
from execution.shielded import to_its_end

log = structlog.get_logger(__name__)

T = TypeVar("T")

AT_ONCE = 2
"""Transactions of a process under way at a time; each has a connection of its own, and may lock many rows."""
_DELAYS = (0.05, 0.2, 0.5, 1.0)
"""Seconds before it is tried again, after trouble that left nothing behind."""
_SOON_SECONDS = 1.0


class OneCommit:
    """A transaction under way. Lock order: executions by id, then keys, as everywhere."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def create(self, appends: Sequence[Append]) -> set[UUID]:
        """Write new executions, each of another id; those whose id did not exist."""
        return await self._write(creation, appends)

    async def lock(self, execution_ids: Sequence[UUID]) -> list[Execution]:
        """Those that exist, as they are until the transaction ends: what is decided on them meets no conflict."""
        rows = await self._connection.fetch(statement("lock_executions"), sorted(execution_ids))
        return [execution_from_row(row) for row in rows]

    async def change(self, appends: Sequence[Append]) -> None:
        """Write what was decided on executions that are locked."""
        await self._write(change, appends)

    async def keep(self, answer: KeyedAnswer) -> None:
        """Keep the answer.

        Raises:
            IdempotencyKeyInProgressError: the key has another holder by now, whose effect it is to be.
        """
        if not await self._connection.fetch(statement("answer_idempotency_keys"), *answer_arguments([answer])):
            raise IdempotencyKeyInProgressError(answer.reservation.key, _SOON_SECONDS)

    async def _write(self, query: Callable[[Sequence[Append]], list[Any]], appends: Iterable[Append]) -> set[UUID]:
        batch = sorted(appends, key=lambda one: one.execution.id)
        if not batch:
            return set()
        rows = await self._connection.fetch(*query(batch))
        return set(rows[0]["written"] or ()) if rows else {one.execution.id for one in batch}


Work: TypeAlias = Callable[[OneCommit], Awaitable[tuple[T, KeyedAnswer | None]]]
"""What is done in the transaction: its outcome, and the answer to be kept, if there is one. It may be called again,
after a transaction that has left nothing behind."""


class OneCommits:
    """The transactions of one process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._places = asyncio.Semaphore(AT_ONCE)

    async def carry_out(self, work: Work[T]) -> T:
        """The outcome, once it is committed together with its answer.

        Cancelling the caller does not take it back. Its time is limited by PostgreSQL, statement by statement.

        Raises:
            IdempotencyKeyInProgressError: somebody else holds the key by now; nothing was done.
            DatabaseError: nothing was done (or, for OutcomeUnknownError, nobody knows).
        """
        async with self._places:
            return await to_its_end(self._patiently(work))

    async def _patiently(self, work: Work[T]) -> T:
        for delay in _DELAYS:
            try:
                return await self._once(work)
            except (DatabaseUnavailableError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError) as error:
                log.warning("one_commit.again", error=str(error))
            await asyncio.sleep(delay)
        try:
            return await self._once(work)
        except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError) as error:
            raise translated("A request on many executions", error) from error

    async def _once(self, work: Work[T]) -> T:
        connection = await self._db.connect()
        done: list[tuple[T, KeyedAnswer | None]] = []
        try:
            async with connection.transaction():
                outcome, answer = await work(OneCommit(connection))
                if answer is not None:
                    await OneCommit(connection).keep(answer)
                done.append((outcome, answer))
        except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError):
            raise
        except DRIVER_ERRORS as error:
            problem = translated("A request on many executions", error)
            if not done or not is_connection_lost(error):
                raise problem from error
            await self._look_up(done[0][1], problem)
        finally:
            await self._db.disconnect(connection)
        outcome, answer = done[0]
        if answer is not None:
            answer.is_kept = True
        return outcome

    async def _look_up(self, answer: KeyedAnswer | None, problem: Exception) -> None:
        """Has the commit whose answer was lost taken place? It has with the answer, or not at all.

        The look waits for the lock of a transaction that is still under way. Raises `problem` if nothing was done.
        """
        if answer is None:
            raise OutcomeUnknownError("A request on many executions") from problem
        held = answer.reservation
        try:
            row = await fetch_row(self._db, "look_up_answer", held.tenant_id, held.key, held.lock_token)
        except DatabaseError as error:
            raise OutcomeUnknownError("A request on many executions") from error
        if row is None or not row["is_answered"]:
            raise problem


def decided(
    before: Execution | None, after: Execution, events: Sequence[Event], command_id: UUID | None = None
) -> Append:
    """A decision, to be written in a transaction; nobody waits for it alone."""
    written: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
    return Append(before, after, events_to_json(after.id, events), events[0].actor, None, 0.0, written, command_id)
