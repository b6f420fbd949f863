"""The `relay_cursors` table: how far the log has been published, and who may publish on.

The lease keeps two relays from doing the same work; what keeps them from harm is the epoch, which every move of the
cursor names. Who has lost the lease without noticing publishes what another one publishes too, and moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from execution.repository.database import Database
from execution.repository.log_position import LogPosition
from execution.repository.reading import fetch, fetch_row

BEGINNING = LogPosition(1, 1)
"""Before the first event."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """The right to move a cursor, as long as nobody has taken it at a higher epoch."""

    name: str
    epoch: int
    position: LogPosition
    """Where the cursor was when it was taken."""


@dataclass(frozen=True, kw_only=True)
class CursorFacts:
    """A cursor as it is."""

    position: LogPosition
    owner: str
    epoch: int
    is_held: bool


@dataclass(frozen=True, kw_only=True)
class RelayLag:
    """What has not been published. `seconds`: the age of the oldest such event."""

    events: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Barrier:
    """The oldest transaction under way, which a snapshot cannot see past."""

    holder: str
    """The backend's process id, or the name of a prepared transaction."""
    database: str
    application: str
    seconds: float


class RelayCursorStore:
    """Statements on cursors. Every method may raise `DatabaseUnavailableError` or `DatabaseError`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def take(self, name: str, owner: str, seconds: float, start: LogPosition | None = BEGINNING) -> Hold | None:
        """Take the lease of a cursor for some seconds; None: somebody holds it.

        Args:
            start: where a new cursor begins; None: after what is visible now.
        """
        row = await fetch_row(self._db, "take_relay_cursor", name, owner, seconds, str(start) if start else None)
        if row is None:
            return None
        return Hold(name=name, epoch=row["epoch"], position=LogPosition.parse(row["position"]))

    async def advance(self, hold: Hold, position: LogPosition, seconds: float) -> bool:
        """Move the cursor and keep the lease for some more seconds; False: it is somebody else's now."""
        return bool(await fetch(self._db, "advance_relay_cursor", hold.name, hold.epoch, str(position), seconds))

    async def release(self, hold: Hold, position: LogPosition) -> None:
        """Move the cursor a last time and give the lease back, if it is still the holder's."""
        await fetch(self._db, "release_relay_cursor", hold.name, hold.epoch, str(position))

    async def read(self, name: str) -> CursorFacts | None:
        """The cursor as it is; None if there is none yet."""
        row = await fetch_row(self._db, "read_relay_cursor", name)
        if row is None:
            return None
        return CursorFacts(
            position=LogPosition.parse(row["position"]), owner=row["owner"], epoch=row["epoch"], is_held=row["is_held"]
        )

    async def lag(self, position: LogPosition, most: int) -> RelayLag:
        """How much is new after a position, counted to about `most`."""
        (row,) = await fetch(self._db, "measure_relay_lag", str(position), most)
        return RelayLag(events=row["events"], seconds=row["seconds"] or 0.0)

    async def barrier(self) -> Barrier | None:
        """Who holds the barrier back; None: nobody."""
        row = await fetch_row(self._db, "find_barrier")
        return None if row is None else Barrier(**dict(row.items()))
