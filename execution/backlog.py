"""What of one kind was admitted and waits, and whether one more would wait too long. Pure: the caller tells the time.

How old the oldest waiting execution is, everybody can ask the database. But that age says what was right when it was
admitted: who closes above some age and opens below it lets in far too much, and then far too little. So the age is only
used to look up how much had been admitted before that execution, and thereby how much workers have taken since:

    admitted ────────────────●━━━━━━━━━━━━━━━━━━━● now         ━ waits
                             │ the oldest that waits           ● moves on as fast as workers take: the rate

As much may wait as is taken in half of the longest wait. Between two looks the rate tells what has been taken, so that
one is let in for each that leaves. Every process counts its own, and so keeps its share.
"""

from __future__ import annotations

from bisect import bisect_right

SMOOTHING_SECONDS = 0.5
"""Workers take in batches: a rate is the mean of about so long."""
AIM = 1 / 2
"""What is aimed at, as a share of the longest wait: the rest is for what a look finds out late."""
EASED = 1 / 4
"""The same share below which nothing keeps the workers from taking more than they are given."""
LEAST = 10
"""So few may always wait, unless longer than the longest wait: what is taken of them tells of no rate."""
_STEPS = 100
"""In so many steps of the longest wait it is remembered when how much had been admitted."""


class Backlog:
    """The executions of one kind that this process has admitted. Times are seconds on the caller's monotonic clock."""

    def __init__(self, longest_wait: float) -> None:
        self._longest_wait = longest_wait
        self._admitted = 0
        self._times: list[float] = []
        self._counts: list[int] = []
        """How many had been admitted before each of the times."""
        self._taken = 0
        self._rate: float | None = None
        """What workers take per second when they are given enough; None: they have always been eased."""
        self._limit = 0.0
        self._seen_at: float | None = None
        self.waited = 0.0
        """How long the oldest had waited when it was last looked at."""

    def admit(self, now: float) -> None:
        """One more."""
        if not self._times or now - self._times[-1] >= self._longest_wait / _STEPS:
            self._times.append(now)
            self._counts.append(self._admitted)
        self._admitted += 1

    def is_full(self, now: float) -> bool:
        """Would one more wait too long?"""
        if self._rate is None or self._seen_at is None:
            return self.waited > self._longest_wait
        waiting = self._admitted - self._taken - self._rate * (now - self._seen_at)
        return waiting >= self._limit

    def see(self, waited: float, now: float) -> None:
        """Take note of how long the oldest has waited by now; 0: nothing waits."""
        taken = self._admitted_before(now - waited) if waited > 0 else self._admitted
        is_eased = waited <= self._longest_wait * EASED
        if self._seen_at is not None and now > self._seen_at:
            seconds = now - self._seen_at
            self._learn(max(0, taken - self._taken) / seconds, seconds, is_eased=is_eased)
        self.waited, self._taken, self._seen_at = waited, taken, now
        self._limit = self._allowed(self._rate or 0.0, is_eased=is_eased)

    def _learn(self, rate: float, seconds: float, *, is_eased: bool) -> None:
        if is_eased:  # workers take what they are given, and could take more
            self._rate = None if self._rate is None else max(self._rate, rate)
        else:
            known = rate if self._rate is None else self._rate
            self._rate = known + (rate - known) * min(1.0, seconds / SMOOTHING_SECONDS)

    def _allowed(self, rate: float, *, is_eased: bool) -> float:
        """How many may wait."""
        if self.waited > self._longest_wait:
            return rate * self._longest_wait * AIM * self._longest_wait / self.waited
        return max(LEAST, rate * self._longest_wait * (1.0 if is_eased else AIM))

    def _admitted_before(self, moment: float) -> int:
        """How many were admitted before a moment; what lies further back is forgotten."""
        after = bisect_right(self._times, moment)
        del self._times[: max(0, after - 1)], self._counts[: max(0, after - 1)]
        return self._counts[0] if after else 0
