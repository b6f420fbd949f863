"""One lane of the group commit: one queue, one connection, one task that writes.

An append that is alone goes over the connection that listens, while that has nothing else to do: what happens one at a
time is then served by one process of PostgreSQL, whose memory stays warm, and not by each of them in turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from execution.errors import DatabaseError, DatabaseUnavailableError, OutcomeUnknownError, ServiceClosedError
from execution.ids import new_id
from execution.repository.append import Append
from execution.repository.batches import answer_arguments
from execution.repository.connections import Connector, is_connection_lost
from execution.repository.lane_counts import LaneCounts
from execution.repository.listening_connection import ListeningConnection
from execution.repository.statements import statement
from execution.waiting import is_set_within

log = structlog.get_logger(__name__)

LONGEST_COURTESY_SECONDS = 0.1
"""How long creations wait at most for a batch of changes that is ready."""
_RECONNECT_DELAYS = (0.0, 0.05, 0.1, 0.2, 0.5)
"""Seconds between attempts to reach PostgreSQL again; the last one repeats."""


class Lane:
    """One queue, one connection, one task that writes."""

    def __init__(
        self,
        name: str,
        connector: Connector,
        query: Callable[[Sequence[Append]], list[Any]],
        batch_limit: int,
        *,
        listening: ListeningConnection,
        after: Sequence[Lane] = (),
    ) -> None:
        self.name = name
        self.counts = LaneCounts()
        self._connector = connector
        self._query = query
        self._batch_limit = batch_limit
        self._listening = listening
        self._borrows = False
        """Does what is under way go over the connection that listens?"""
        self._after = after
        self.queue: deque[Append] = deque()
        """What waits for the next batch, in order."""
        self._under_way: list[Append] = []
        self._held_back: list[Append] = []
        """Appends to executions of the batch under way, which took an earlier append of theirs."""
        self._filled = asyncio.Event()
        self._eased = asyncio.Event()
        """Set with every batch that leaves less than another one behind."""
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._reconnecting: asyncio.Timeout | None = None

    async def start(self) -> None:
        self._connection = await self._connector.connect()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name=f"lane {self.name}")

    async def stop(self) -> None:
        self._closing = True
        self._filled.set()
        if self._task is not None:
            while not await self._connector.presence.outlasts(self._task):
                self.abandon()
            await self._task
            self._task = None
        await self._disconnect()

    def abandon(self) -> None:
        """PostgreSQL is away, and nobody waits for it any more: whoever has something queued or under way is told."""
        log.warning("append.abandoned", lane=self.name, queued=len(self.queue))
        for append in (*self._under_way, *self.queue):
            append.give_up_at = 0.0
        if self._borrows:
            self._listening.cut()
        if self._connection is not None:
            self._connection.terminate()
        if self._reconnecting is not None and self._reconnecting.when() is None:
            self._reconnecting.reschedule(asyncio.get_running_loop().time())

    @property
    def is_busy(self) -> bool:
        """Is anything queued or under way?"""
        return bool(self._under_way or self.queue)

    def put(self, append: Append) -> None:
        if self._closing or self._task is None:
            raise ServiceClosedError("The append path")
        if not self.queue:
            self._filled.set()
        self.queue.append(append)

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            while self.queue:
                for lane in self._after:
                    await lane.eased()
                self._under_way = self._take()
                await self._write(self._under_way)
                self._under_way = []
            if self._closing:
                return
            self._filled.clear()

    async def eased(self) -> None:
        """Until less than a whole batch is queued; bounded, because it is about who goes first and nothing else."""
        if len(self.queue) >= self._batch_limit:
            self._eased.clear()
            await is_set_within(self._eased, LONGEST_COURTESY_SECONDS)

    def _take(self) -> list[Append]:
        """The next batch, sorted by id: at most one append per execution, the others keep their place in the queue."""
        if len(self.queue) == 1:
            self._held_back = []
            self._eased.set()
            return [self.queue.popleft()]
        batch: dict[UUID, Append] = {}
        later: list[Append] = []
        while self.queue and len(batch) < self._batch_limit:
            append = self.queue.popleft()
            if batch.setdefault(append.execution.id, append) is not append:
                later.append(append)
        self.queue.extendleft(reversed(later))
        self._held_back = later
        if len(self.queue) < self._batch_limit:
            self._eased.set()
        return sorted(batch.values(), key=_by_id)

    async def _write(self, batch: list[Append]) -> None:
        """Write one batch to its end: every append of it is settled when this returns, or in the loop's next round."""
        while batch:
            try:
                await self._execute(batch)
                return
            except Exception as error:  # noqa: BLE001 - every append of the batch must be answered, whatever broke
                batch = await self._after_error(batch, error)

    async def _execute(self, batch: Sequence[Append]) -> None:
        connection = self._connection
        if connection is None or connection.is_closed():
            raise ConnectionError("not connected")
        batch_id = new_id()
        for append in batch:
            append.sent = True
            append.command_id = append.command_id or batch_id
        began = time.monotonic()
        rows = await self._send(connection, batch)
        self.counts.seconds += time.monotonic() - began
        written = batch
        if rows:
            written = await self._settle_refused(batch, set(rows[0]["written"] or ()))
        self.counts.batches += 1
        self.counts.appends += len(written)
        if self._held_back:
            self._refuse_overtaken({one.execution.id: one.execution.version for one in written})
        if self.queue:  # that is sent first: PostgreSQL works while this process answers hundreds of callers
            asyncio.get_running_loop().call_soon(self._confirm, written)
        else:
            self._confirm(written)

    async def _send(self, connection: asyncpg.Connection, batch: Sequence[Append]) -> list[asyncpg.Record]:
        """What the statement answers. Where answers are to be kept with appends, one transaction holds both."""
        answers = {append.execution.id: append.answer for append in batch if append.answer is not None}
        self._borrows = len(batch) == 1 and not answers and self._listening.is_free
        if not answers:
            return await (self._listening if self._borrows else connection).fetch(*self._query(batch))
        async with connection.transaction():
            rows = await connection.fetch(*self._query(batch))
            written = answers.keys() if not rows else answers.keys() & set(rows[0]["written"] or ())
            due = [answers[execution_id] for execution_id in written]
            found = await connection.fetch(statement("answer_idempotency_keys"), *answer_arguments(due)) if due else []
        kept = {row["lock_token"] for row in found}
        for one in due:
            one.is_kept = one.reservation.lock_token in kept
        return rows

    async def _settle_refused(self, batch: Sequence[Append], written: set[UUID]) -> list[Append]:
        """Answer the appends that were not written; the others."""
        refused = [append for append in batch if append.execution.id not in written]
        doubtful = [append for append in refused if append.resent]
        if doubtful:  # the connection that was lost may have committed after all, between look-up and statement
            await self._settle_committed(doubtful)
        self.counts.refused += len(refused)
        for append in refused:
            append.refuse()
        return [append for append in batch if append.execution.id in written]

    @staticmethod
    def _confirm(written: Sequence[Append]) -> None:
        """They are in the log: who set off what follows from them does that at once, then each caller is answered."""
        for audience, appends in groupby(written, _audience_of):
            if audience is None:
                continue
            try:
                audience.written(list(appends))
            except Exception:
                log.exception("append.not_told")  # it is written all the same, and polls find it
        for append in written:
            append.confirm()

    def _refuse_overtaken(self, versions: dict[UUID, int]) -> None:
        """Answer appends that expected a version just replaced, without asking PostgreSQL."""
        for loser in self._held_back:
            if loser.expected_version >= versions.get(loser.execution.id, 0):
                continue
            self.queue.remove(loser)
            loser.refuse()
            self.counts.refused += 1

    async def _after_error(self, batch: list[Append], error: Exception) -> list[Append]:
        """What is left to write after an error."""
        if is_connection_lost(error):
            return await self._restore(batch)
        if isinstance(
            error, asyncpg.DeadlockDetectedError | asyncpg.SerializationError | asyncpg.LockNotAvailableError
        ):
            log.warning("append.collided", lane=self.name, size=len(batch), error=str(error))
            for append in batch:
                append.sent = False  # the statement was rolled back
            if len(batch) == 1:
                return self._drop_impatient(batch)
        elif len(batch) == 1:
            batch[0].fail(DatabaseError(f"Appending to execution {batch[0].execution.id}", _problem(error)))
            return []
        # One append spoils the batch, or waits for a row somebody else keeps; alone, each passes or fails for itself.
        for append in batch:
            await self._write([append])
        return []

    async def _restore(self, batch: list[Append]) -> list[Append]:
        """Reconnect, and find out which appends of the batch had been committed before the connection broke."""
        await self._disconnect()
        self.counts.reconnects += 1
        attempt = 0
        while batch := self._drop_impatient(batch):
            delay = _RECONNECT_DELAYS[min(attempt, len(_RECONNECT_DELAYS) - 1)]
            attempt += 1
            await asyncio.sleep(delay)
            try:
                await self._reconnect()
                return await self._settle_committed(batch)
            except Exception as error:  # noqa: BLE001 - whatever keeps PostgreSQL away, only patience ends the attempts
                log.warning("append.reconnecting", lane=self.name, attempt=attempt, error=_problem(error))
        return []

    async def _reconnect(self) -> None:
        try:
            async with asyncio.timeout(None) as self._reconnecting:
                self._connection = await self._connector.connect()
        finally:
            self._reconnecting = None

    async def _settle_committed(self, batch: Sequence[Append]) -> list[Append]:
        sent = [append for append in batch if append.sent]
        if not sent or self._connection is None:
            return list(batch)
        rows = await self._connection.fetch(
            statement("look_up_appends"),
            [append.execution.id for append in sent],
            [append.expected_version + 1 for append in sent],
        )
        writer = {row["execution_id"]: (row["command_id"], row["occurred_at"]) for row in rows}
        left, written = [], []
        for append in batch:
            if append.execution.id not in writer or not append.sent:
                append.sent, append.resent = False, append.resent or append.sent
                left.append(append)
            elif writer[append.execution.id] == (append.command_id, append.execution.updated_at):
                written.append(append)
            else:
                append.refuse()
        self._confirm(written)
        return left

    def _drop_impatient(self, batch: Sequence[Append]) -> list[Append]:
        now = time.monotonic()
        left = []
        for append in batch:
            if append.give_up_at > now:
                left.append(append)
                continue
            what = f"Appending to execution {append.execution.id}"
            if append.sent or append.resent:
                append.fail(OutcomeUnknownError(what, append.command_id))
            else:
                append.fail(DatabaseUnavailableError(what, "PostgreSQL is not reachable"))
        return left

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._connector.discard(connection)


_audience_of = attrgetter("audience")
_by_id = attrgetter("execution.id.bytes")
"""In PostgreSQL's order, and compared faster than the ids themselves."""


def _problem(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ").rstrip(".")
