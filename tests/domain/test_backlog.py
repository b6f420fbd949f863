"""A queue on a clock of its own: workers that take in batches, processes that submit more than those can take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

import pytest

from execution.backlog import AIM, LEAST, Backlog

LONGEST_WAIT = 0.5
CAPACITY = 600.0
BATCH = 24
TICK = 0.002
LOOK_SECONDS = 0.1
RECORDED_AFTER = 0.02


@dataclass
class Submitter:
    """A process that offers so much per second, and what became of it."""

    per_second: float
    backlog: Backlog = field(default_factory=lambda: Backlog(LONGEST_WAIT))
    due: float = 0.0
    admitted: int = 0
    refused: int = 0

    def offer(self, now: float, queue: deque[float]) -> None:
        self.due += self.per_second * TICK
        while self.due >= 1.0:
            self.due -= 1.0
            if self.backlog.is_full(now):
                self.refused += 1
            else:
                self.backlog.admit(now)
                self.admitted += 1
                queue.append(now)


class Simulation:
    """One queue, first in, first out. `waits`: what each that was taken had waited, and when it was taken."""

    def __init__(self, *submitters: Submitter, chance: Random | None = None) -> None:
        self.submitters = submitters
        self.capacity = CAPACITY
        self.now = 100.0
        self.queue: deque[float] = deque()
        self.waits: list[tuple[float, float]] = []
        self._chance = chance or Random(7)
        self._room = 0.0
        self._look_at = self.now

    def run(self, seconds: float) -> int:
        """Let time go by; how many were taken."""
        before, until = len(self.waits), self.now + seconds
        while self.now < until:
            self.now += TICK
            for one in self.submitters:
                one.offer(self.now, self.queue)
            self._take()
            if self.now >= self._look_at:
                self._look()
                self._look_at = self.now + LOOK_SECONDS * self._chance.uniform(1.0, 3.0)
        return len(self.waits) - before

    def _oldest(self) -> float | None:
        return self.queue[0] if self.queue and self.queue[0] <= self.now - RECORDED_AFTER else None

    def _take(self) -> None:
        self._room = min(self._room + self.capacity * TICK, 2.0 * BATCH)
        if self._room < BATCH:
            return
        for _ in range(BATCH):
            if (since := self._oldest()) is None:
                break
            self.queue.popleft()
            self.waits.append((self.now, self.now - since))
        self._room -= BATCH

    def _look(self) -> None:
        since = self._oldest()
        for one in self.submitters:
            one.backlog.see(0.0 if since is None else self.now - since, self.now)

    def longest_wait(self, after: float) -> float:
        return max(wait for taken_at, wait in self.waits if taken_at > after)


@pytest.mark.parametrize("times", [1.1, 2.0, 5.0, 20.0])
def test_workers_lack_nothing_and_nothing_waits_long(times: float, chance: Random) -> None:
    simulation = Simulation(Submitter(times * CAPACITY), chance=chance)
    taken = simulation.run(20.0)
    assert taken > 0.97 * CAPACITY * 20.0
    # Of the first moment nothing is known: what came until it was looked at twice waits as long as it takes.
    assert simulation.longest_wait(after=101.0 + 0.7 * times) < LONGEST_WAIT * 1.2
    assert simulation.submitters[0].refused > 0.9 * (times - 1.0) * CAPACITY * 18.0


def test_it_does_not_swing(chance: Random) -> None:
    """Half a second at a time, as much is let in as workers take: neither everything nor nothing."""
    simulation = Simulation(Submitter(2 * CAPACITY), chance=chance)
    simulation.run(3.0)
    for _ in range(30):
        before = simulation.submitters[0].admitted
        simulation.run(0.5)
        admitted = simulation.submitters[0].admitted - before
        assert 0.5 * CAPACITY * 0.5 < admitted < 1.5 * CAPACITY * 0.5


def test_what_workers_can_do_is_all_admitted(chance: Random) -> None:
    simulation = Simulation(Submitter(0.9 * CAPACITY), chance=chance)
    simulation.run(20.0)
    assert simulation.submitters[0].refused == 0


def test_a_burst_that_nobody_could_foresee_is_admitted() -> None:
    simulation = Simulation(Submitter(10.0))
    simulation.run(5.0)
    burst = simulation.submitters[0]
    burst.due += 5 * CAPACITY
    burst.offer(simulation.now, simulation.queue)
    assert burst.refused == 0


def test_more_workers_are_given_more() -> None:
    simulation = Simulation(Submitter(4 * CAPACITY))
    simulation.run(5.0)
    simulation.capacity = 3 * CAPACITY
    simulation.run(1.0)
    assert simulation.run(5.0) > 0.95 * 3 * CAPACITY * 5.0


def test_without_workers_nothing_more_is_admitted() -> None:
    simulation = Simulation(Submitter(2 * CAPACITY))
    simulation.run(5.0)
    simulation.capacity = 0.0
    simulation.run(1.0)
    before = simulation.submitters[0].admitted
    simulation.run(5.0)
    assert simulation.submitters[0].admitted == before
    simulation.capacity = CAPACITY
    simulation.run(1.0)
    assert simulation.run(5.0) > 0.95 * CAPACITY * 5.0


def test_each_process_keeps_a_share(chance: Random) -> None:
    """The one that comes later, and the one that offers less, are not shut out."""
    first = Submitter(2 * CAPACITY)
    simulation = Simulation(first, chance=chance)
    simulation.run(3.0)
    second = Submitter(0.5 * CAPACITY)
    simulation.submitters = (first, second)
    simulation.run(20.0)
    assert second.admitted > 0.1 * CAPACITY * 20.0
    assert first.admitted > 0.3 * CAPACITY * 20.0
    assert simulation.longest_wait(after=110.0) < LONGEST_WAIT * 1.5


def test_a_process_that_has_just_come_believes_what_it_sees() -> None:
    """The oldest has waited too long already, whoever admitted it."""
    backlog = Backlog(LONGEST_WAIT)
    assert not backlog.is_full(1.0)
    backlog.admit(1.0)
    backlog.see(LONGEST_WAIT * 3, 1.1)
    assert backlog.is_full(1.2)
    backlog.see(0.0, 1.3)
    assert not backlog.is_full(1.4)


def test_a_few_may_always_wait_but_not_too_long() -> None:
    backlog = Backlog(LONGEST_WAIT)
    backlog.see(0.0, 1.0)
    admitted = 0
    while not backlog.is_full(1.0):
        backlog.admit(1.0)
        admitted += 1
        backlog.see(LONGEST_WAIT * AIM, 1.0 + LONGEST_WAIT * AIM)
        if admitted > 10 * LEAST:
            break
    assert admitted == LEAST
    assert backlog.waited == LONGEST_WAIT * AIM
