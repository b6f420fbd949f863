"""How long a relay rests after a batch: what trickles in gathers, a limit is kept, others may have the processors."""

from __future__ import annotations

from collections.abc import Callable

FEW = 20
"""Fewer events in one batch are what comes in while it is published, and somebody may be waiting for them."""
PAUSE, LONGEST_PAUSE = 0.25, 0.02
"""After more, if that was all: this part of the time that reading and publishing it took, and not more seconds than
that, so that some more gathers meanwhile."""
LOAD = 200
"""After so many events in one batch it may stand back."""
OWN_SHARE = 0.25
"""Part of its time that it waits for a processor even where only PostgreSQL and the brokers work beside it, for it."""
STANDING_BACK, LONGEST_STANDING_BACK = 4.0, 0.25
"""A relay that others keep waiting for a processor rests so many times as long as it has waited beyond that, and not
more seconds than that after one batch. The system's priorities alone hold back the relay, but not what PostgreSQL and
the brokers do for it; they work less when they are asked for less."""


class RelayPace:
    """Says how long to rest.

    Args:
        most_per_second: events. None: as many as it can.
        waited: seconds that the relay has been ready and others have had the processors, so far. None: it does not
            stand back for others.
    """

    def __init__(self, most_per_second: int | None = None, waited: Callable[[], float] | None = None) -> None:
        self._seconds_each = 1 / most_per_second if most_per_second else 0.0
        self._waited = waited or _never
        self._waited_before = self._waited()

    def rest_after(self, events: int, took: float, *, is_last: bool) -> float:
        """Seconds to rest after a batch of some events that took so long; `is_last`: there were no more."""
        waited = self._waited()
        since, self._waited_before = waited - self._waited_before, waited
        gathering = min(PAUSE * took, LONGEST_PAUSE) if is_last and events >= FEW else 0.0
        standing_back = (
            min(STANDING_BACK * (since - OWN_SHARE * took), LONGEST_STANDING_BACK) if events >= LOAD else 0.0
        )
        return max(gathering, standing_back, events * self._seconds_each - took, 0.0)


def _never() -> float:
    return 0.0
