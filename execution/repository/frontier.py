"""How far a worker's claims have come, so that the next one need not walk over what the earlier ones left behind.

Claimed rows leave dead entries at the head of their index, and while somebody keeps an old snapshot open PostgreSQL
can clean none of them up: a claim that begins at the head gets slower with every execution since. So a claim begins,
in each level (kind and priority) it knows, a little before where the last one got to.

Rows can turn up further back all the same: a creation whose commit was late, a claim that was given back. A whole
search finds them. It is as slow as the index is unclean, so it gets a hundredth of the time: once in 0.2 s as a rule,
more rarely the longer it takes. What is claimed never depends on the frontier, only how soon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from execution.domain.execution import Execution

OVERLAP = timedelta(seconds=1)
"""How far behind the last claim the next one begins: creations do not become visible in the order of their times."""
WHOLE_SEARCH_SHARE = 0.01
MAX_PAUSE_SECONDS = 30.0
"""Longest time between two whole searches, however slow they have become."""
MAX_LEVELS = 32
"""Levels to remember, the latest ones: each costs every claim a look, and a thousand priorities are allowed."""

Level = tuple[str, int]
Levels = Sequence[tuple[str, int, datetime]]
"""Kind, priority, and the time to begin at."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Where one claim begins: in these levels at these times, in all others at the head. Whole: nowhere later."""

    levels: Levels
    asked_at: datetime
    started: float

    @property
    def is_whole(self) -> bool:
        """Does it see every due execution?"""
        return not self.levels

    def columns(self) -> list[list[str] | list[int] | list[datetime]]:
        """The levels as the arrays of the claim statement."""
        return columns_of(self.levels)


class ClaimFrontier:
    """The frontier of one worker.

    Args:
        now: the database's time, never ahead of it.
        monotonic: seconds that only ever pass, for the pauses between whole searches.
    """

    def __init__(self, now: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._monotonic = monotonic
        self._reached: dict[Level, datetime] = {}
        self._whole_search_at = 0.0

    def begin(self) -> Search:
        """Where the next claim begins."""
        started = self._monotonic()
        levels = self.levels() if started < self._whole_search_at else []
        return Search(levels=levels, asked_at=self._now(), started=started)

    def levels(self) -> Levels:
        """The levels it knows, and where each begins: for who only wants to know what is left to claims that are not
        whole."""
        return [(kind, priority, reached - OVERLAP) for (kind, priority), reached in self._reached.items()]

    def end(self, search: Search, claimed: Sequence[Execution], limit: int) -> None:
        """Take note of what a search found; `claimed` in the order of the claim."""
        for one in claimed:
            level = (one.kind, one.priority)
            self._reached.pop(level, None)  # so that the latest level comes last
            self._reached[level] = one.run_at
        if len(claimed) < limit:  # nothing that was due is left
            self._reached = dict.fromkeys(self._reached, search.asked_at)
        for level in list(self._reached)[:-MAX_LEVELS]:
            del self._reached[level]
        if search.is_whole:
            ended = self._monotonic()
            self._whole_search_at = ended + min((ended - search.started) / WHOLE_SEARCH_SHARE, MAX_PAUSE_SECONDS)


def columns_of(levels: Levels) -> list[list[str] | list[int] | list[datetime]]:
    """Levels as the arrays that the statements take."""
    return [
        [kind for kind, _, _ in levels],
        [priority for _, priority, _ in levels],
        [since for _, _, since in levels],
    ]
