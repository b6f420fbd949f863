"""Does a relay that works all the time keep up with the log? Asked of one that is behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from execution.repository.event_log import LogBatch

MEMORY = 0.85
"""What a batch weighs against the one after it: six of them or so decide."""
CERTAIN = 4
"""Fewer batches say nothing: a group commit is one transaction of hundreds of events, so a batch is a handful."""


@dataclass
class _Course:
    """Seconds and transactions; what is long ago weighs less."""

    batches: int = 0
    worked: float = 0.0
    went: float = 0.0
    passed: float = 0.0
    grew: float = 0.0

    def add(self, *, worked: float, went: int, passed: float, grew: int) -> None:
        self.batches += 1
        self.worked = MEMORY * self.worked + worked
        self.went = MEMORY * self.went + went
        self.passed = MEMORY * self.passed + passed
        self.grew = MEMORY * self.grew + grew


class Headway:
    """Compares how fast a relay goes through the log with how fast the log grows, both in transactions: events that
    nobody has read yet cannot be counted.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._course = _Course()
        self._before: tuple[float, int] | None = None

    def note(self, batch: LogBatch, took: float) -> None:
        """A batch that has been published, and the time that reading and publishing it took."""
        now, head = self._clock(), batch.head.xmax
        if self._before is not None:
            noted_at, head_before = self._before
            went = batch.position.xmax - batch.after.xmax
            self._course.add(worked=took, went=went, passed=now - noted_at, grew=head - head_before)
        self._before = now, head

    @property
    def falls_behind(self) -> bool:
        """Is it known to be slower than the log?"""
        course = self._course
        return course.batches >= CERTAIN and course.went * course.passed <= course.grew * course.worked
