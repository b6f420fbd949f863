"""Group commit: concurrent appends share one statement and one commit, and each caller learns its own outcome.

A lane is one connection and one task. While its statement is under way, further appends queue up; when it is free,
it takes all of them at once (up to a limit) without any artificial delay, except that creations let a batch of changes
that is ready go first. Under load batches grow and the cost of a commit is spread; alone, an append waits for nothing.

    callers ──append()──► queue ──► [ batch: at most one append per execution ] ──► one statement ──► each future

Creations have a lane of their own; changes are spread over the other lanes by execution id, so that two lanes of a
process never wait for the same row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

from execution.domain.events import Event
from execution.domain.execution import Execution
from execution.errors import OverloadedError
from execution.keyed_answer import KeyedAnswer
from execution.repository.append import Append, Audience, Claimant
from execution.repository.batches import change, creation
from execution.repository.connections import Connector
from execution.repository.lane import Lane
from execution.repository.lane_counts import LaneCounts
from execution.repository.listening_connection import ListeningConnection
from execution.repository.records import events_to_json
from execution.shielded import to_its_end


class AppendLanes:
    """The lanes of one process."""

    def __init__(
        self,
        connector: Connector,
        listening: ListeningConnection,
        *,
        lanes: int,
        batch_limit: int,
        patience: float,
        creations_limit: int,
    ) -> None:
        self._patience = patience
        self._creations_limit = creations_limit
        self._changes = [
            Lane(f"append-{number}", connector, change, batch_limit, listening=listening) for number in range(lanes)
        ]
        self._creations = Lane("create", connector, creation, batch_limit, listening=listening, after=self._changes)

    async def start(self) -> None:
        """Connect every lane, so that a wrong address fails here and not in the first append."""
        for lane in self._all:
            await lane.start()

    async def stop(self) -> None:
        """Write what is queued, then close, whoever is cancelled meanwhile: what waits is on its way.

        Bounded by the statement timeout, and by seconds where PostgreSQL is away; then whoever waits is told so.
        """
        await to_its_end(self._stop_all())

    def abandon(self) -> None:
        """Answer all that waits: PostgreSQL is away, and who waits has no time. What comes later waits as ever."""
        for lane in self._all:
            if lane.is_busy:
                lane.abandon()

    def check_room(self) -> None:
        """Refuse a creation that would have to wait behind too many others.

        Only creations are ever refused: what ends or stops an execution that was accepted is always taken.

        Raises:
            OverloadedError: so many creations are queued as this process may keep waiting.
        """
        if len(self._creations.queue) >= self._creations_limit:
            raise self.overload()

    @property
    def room(self) -> int:
        """How many creations may be added to those that are queued."""
        return max(0, self._creations_limit - len(self._creations.queue))

    def oldest_creation_seconds(self) -> float:
        """How long the oldest of the queued creations has waited to be recorded; 0 if none waits."""
        queue = self._creations.queue
        return time.monotonic() + self._patience - queue[0].give_up_at if queue else 0.0

    def overload(self) -> OverloadedError:
        """The refusal of a creation for which there is no room."""
        return OverloadedError(
            f"{len(self._creations.queue):,} submissions wait to be recorded (EXECUTION_SUBMISSION_QUEUE_LIMIT)"
        )

    def append(
        self,
        before: Execution | None,
        execution: Execution,
        events: Sequence[Event],
        *,
        lease_epoch: int | None = None,
        command_id: UUID | None = None,
        claimant: Claimant | None = None,
        answer: KeyedAnswer | None = None,
        audience: Audience | None = None,
        patience: float | None = None,
    ) -> asyncio.Future[Execution]:
        """Write the events and the row after them; await when both are committed. `before`: None for a creation.

        An `answer` is kept under its key in the same transaction. Cancelling the caller does not take the write back:
        it is on its way. A `claimant` (of a creation only) is told what became of it unless this raises; an
        `audience` hears of it with the rest of its batch once it is written.

        Raises:
            VersionConflict: the row's version (or, for a worker's write, its lease epoch) is another one.
            DuplicateExecutionError: a creation whose id exists, or whose claimant was declared dead.
            OverloadedError: a creation, and too many others are queued.
            DatabaseUnavailableError: PostgreSQL could not be reached for `patience` seconds; nothing was written.
            OutcomeUnknownError: the same, but the statement had been sent.
            DatabaseError: PostgreSQL refused the statement, or no statement can say it; nothing was written.
        """
        if before is None:
            self.check_room()
        lane = self._lane_of(execution.id) if before else self._creations
        give_up_at = time.monotonic() + (self._patience if patience is None else patience)
        text, actor = events_to_json(execution.id, events), events[0].actor
        done: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        lane.put(
            Append(
                before, execution, text, actor, lease_epoch, give_up_at, done, command_id, claimant, answer, audience
            )
        )
        return done

    def counts(self) -> dict[str, LaneCounts]:
        """What each lane has done, by its name."""
        return {lane.name: lane.counts for lane in self._all}

    def queued(self) -> dict[str, int]:
        """How many appends wait for each lane, by its name."""
        return {lane.name: len(lane.queue) for lane in self._all}

    async def _stop_all(self) -> None:
        await asyncio.gather(*(lane.stop() for lane in self._all))

    @property
    def _all(self) -> list[Lane]:
        return [self._creations, *self._changes]

    def _lane_of(self, execution_id: UUID) -> Lane:
        changes = self._changes
        return changes[0] if len(changes) == 1 else changes[hash(execution_id) % len(changes)]
