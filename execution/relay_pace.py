"""How long a relay rests after a batch: what comes in gathers, a limit is kept, others may have the processors."""

from __future__ import annotations

import time
from collections.abc import Callable

from execution.relay_headway import Headway
from execution.repository.event_log import LogBatch

FEW = 20
"""Fewer events in one batch are what comes in while it is published, and somebody may be waiting for them."""
PAUSE, LONGEST_PAUSE = 0.25, 0.02
"""After more, if that was all: this part of the time that reading and publishing it took, and not more seconds than
that, so that some more gathers meanwhile."""
LOAD = 200
"""After so many events in one batch it may stand back."""
OWN_SHARE = 0.25
"""Part of its time that it waits for a processor even where only PostgreSQL and the brokers work beside it, for it."""
STANDING_BACK, LONGEST_STANDING_BACK = 30.0, 0.5
"""A relay that stands back rests so many times as long as others kept it waiting for a processor beyond that, and not
more seconds than that after one batch. The system's priorities alone hold back the relay, but not what PostgreSQL and
the brokers do for it; they work less when they are asked for less."""
STANDS_BACK_SECONDS = 5.0
"""Then it tries again whether it keeps up, for some batches. While it rests nobody can tell: what has slept waits
longer for a processor than what works on."""


class RelayPace:
    """Says how long to rest.

    Where others need the processors, a relay that falls behind although it works all the time stands back: it would
    only fall behind less. One that keeps up, or catches up, does not; so the lag has a bound wherever the load leaves
    enough for the relay.

    Args:
        most_per_second: events. None: as many as it can.
        waited: seconds that the relay has been ready and others have had the processors, so far. None: it does not
            stand back for others.
    """

    def __init__(
        self,
        most_per_second: int | None = None,
        waited: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds_each = 1 / most_per_second if most_per_second else 0.0
        self._waited = waited or _never
        self._waited_before = self._waited()
        self._clock = clock
        self._headway = Headway(clock)
        self._stands_back_until = clock()

    def rest_after(self, batch: LogBatch, took: float) -> float:
        """Seconds to rest after a batch that took so long to be read and published."""
        waited = self._waited()
        since, self._waited_before = waited - self._waited_before, waited
        events = len(batch.events)
        resting = 0.0
        if batch.is_last:
            self._keeps_up()
            resting = min(PAUSE * took, LONGEST_PAUSE) if events >= FEW else 0.0
        elif self._stands_back(batch, took) and events >= LOAD:
            resting = min(STANDING_BACK * (since - OWN_SHARE * took), LONGEST_STANDING_BACK)
        return max(resting, events * self._seconds_each - took, 0.0)

    def _keeps_up(self) -> None:
        self._headway.forget()
        self._stands_back_until = self._clock()

    def _stands_back(self, batch: LogBatch, took: float) -> bool:
        now = self._clock()
        if now < self._stands_back_until:
            return True
        self._headway.note(batch, took)
        if not self._headway.falls_behind:
            return False
        self._headway.forget()
        self._stands_back_until = now + STANDS_BACK_SECONDS
        return True


def _never() -> float:
    return 0.0
