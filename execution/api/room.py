"""Room for so many requests at once: who finds none is refused before anything is done for it.

A place is taken, or the request refused, as soon as its head has been read (`RefusingProtocol`). Whoever answers the
request gives the place back (`RequestLimits`).
"""

from __future__ import annotations

from collections.abc import Iterable

from execution.api.preferences import preferred_wait
from execution.api.refusal import Refusal, RefusalLog
from execution.api.turnstile import Turnstile
from execution.errors import OverloadedError
from execution.settings import Settings

ALWAYS_ANSWERED = frozenset({"/health/live", "/health/ready", "/metrics"})
"""What tells of an overload must be answered in one."""


REFUSALS_PER_SECOND = 1_000
"""They take a few hundredths of a process's time. `Retry-After` follows from it, so who heeds that notices nothing."""


class Place:
    """One request's place in a room."""

    def __init__(self, room: Room) -> None:
        self._room: Room | None = room

    def leave(self) -> None:
        """Give it back; a second time does nothing."""
        room, self._room = self._room, None
        if room is not None:
            room.taken -= 1


class Room:
    """So many places, and what those are told who find none."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken = 0
        self.refusal = Refusal(OverloadedError(f"{places:,} requests are being answered already"))

    def enter(self) -> Place | None:
        """Take a place; None if there is none."""
        if self.taken >= self.places:
            return None
        self.taken += 1
        return Place(self)


class Rooms:
    """Those of one process: who wants to be kept waiting for an end takes no place of the others."""

    def __init__(self, settings: Settings) -> None:
        self.in_flight = Room(settings.requests_in_flight_limit)
        self.waiting = Room(settings.requests_waiting_limit)
        self.connections = settings.connection_limit
        self.crowded = Refusal(OverloadedError(f"{self.connections:,} connections are open already"))
        """For those on a connection beyond the limit."""
        self.refusals = RefusalLog()
        self.turnstile = Turnstile()
        self.resting = 0
        """Connections that are not read because a request was refused on them."""

    @property
    def rest_seconds(self) -> float:
        """For how long the next one is not: so that all together are refused so many times a second and no more."""
        return (self.resting + 1) / REFUSALS_PER_SECOND

    def room_for(self, headers: Iterable[tuple[bytes, bytes]]) -> Room:
        """Where a request with these headers, their names in small letters, belongs."""
        return self.waiting if patience_of(headers) else self.in_flight


def patience_of(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The seconds that a request wants to be kept waiting for an end."""
    preferences = [value.decode("latin-1") for name, value in headers if name == b"prefer"]
    return preferred_wait(preferences) or 0 if preferences else 0
