"""How long a relay rests: pure arithmetic, but for the one reading of the system's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from execution.process import waited_for_processor
from execution.relay_headway import CERTAIN, Headway
from execution.relay_pace import (
    FEW,
    LOAD,
    LONGEST_PAUSE,
    LONGEST_STANDING_BACK,
    OWN_SHARE,
    PAUSE,
    STANDING_BACK,
    STANDS_BACK_SECONDS,
    RelayPace,
)
from execution.repository.event_log import LogBatch, LoggedEvent
from execution.repository.log_position import LogPosition

SOON = 10.0
TOOK = 0.1
ENTRY = LoggedEvent(uuid4(), 1, "agent.execution.progress", datetime.now(UTC), "", None, "{}", None, None, None)


class Waited:
    """A relay's waiting for a processor, as the system would count it."""

    def __init__(self) -> None:
        self.seconds = 7.0

    def __call__(self) -> float:
        return self.seconds


class Log:
    """Read batch by batch, by a relay whose clock stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.at, self.head = 1_000, 1_000_000

    def clock(self) -> float:
        return self.now

    def batch(self, events: int = LOAD, *, went: int = 1, grew: int = 0, is_last: bool = False) -> LogBatch:
        """The next one, so many transactions further on, of a log that has grown by so many since the last one."""
        after = self.at
        self.at, self.head = after + went, self.head + grew
        position = LogPosition(self.at, self.at)
        head = position if is_last else LogPosition(self.head, self.head)
        return LogBatch(after=LogPosition(after, after), events=[ENTRY] * events, position=position, head=head)


def pace_that_stands_back(waited: Waited, log: Log) -> RelayPace:
    """One that has been falling behind for some batches."""
    pace = RelayPace(waited=waited, clock=log.clock)
    for _ in range(CERTAIN):
        assert pace.rest_after(log.batch(went=1, grew=2), TOOK) == 0.0
        log.now += TOOK
        waited.seconds += TOOK
    assert pace.rest_after(log.batch(went=1, grew=2), TOOK) == LONGEST_STANDING_BACK
    return pace


def test_what_comes_in_gathers_for_a_part_of_the_time() -> None:
    pace, log = RelayPace(), Log()
    assert pace.rest_after(log.batch(FEW, is_last=True), 0.004) == pytest.approx(PAUSE * 0.004)
    assert pace.rest_after(log.batch(FEW, is_last=True), 4.0) == LONGEST_PAUSE
    assert pace.rest_after(log.batch(FEW), 4.0) == 0.0


def test_few_events_do_not_wait_for_more() -> None:
    assert RelayPace().rest_after(Log().batch(FEW - 1, is_last=True), 0.004) == 0.0


def test_a_limit_is_kept() -> None:
    pace, log = RelayPace(most_per_second=100), Log()
    assert pace.rest_after(log.batch(50), 0.1) == pytest.approx(0.4)
    assert pace.rest_after(log.batch(50), 0.6) == 0.0


def test_it_rests_as_long_as_others_needed_the_processors() -> None:
    waited, log = Waited(), Log()
    pace = pace_that_stands_back(waited, log)
    waited.seconds += 0.03
    assert pace.rest_after(log.batch(), TOOK) == pytest.approx(STANDING_BACK * (0.03 - OWN_SHARE * TOOK))
    assert pace.rest_after(log.batch(), TOOK) == 0.0, "only what was since the last batch"
    waited.seconds += 5.0
    assert pace.rest_after(log.batch(), 5.0) == LONGEST_STANDING_BACK


def test_it_does_not_rest_for_what_works_for_it() -> None:
    waited, log = Waited(), Log()
    pace = pace_that_stands_back(waited, log)
    waited.seconds += 0.02
    assert pace.rest_after(log.batch(), TOOK) == 0.0


def test_it_stands_back_with_loads_only() -> None:
    """Few events cost little, and somebody may be waiting for them."""
    waited, log = Waited(), Log()
    pace = pace_that_stands_back(waited, log)
    waited.seconds += TOOK
    assert pace.rest_after(log.batch(LOAD - 1), TOOK) == 0.0


def test_at_the_end_of_the_log_it_does_not_stand_back_any_more() -> None:
    """There it keeps up, whoever else needs the processors."""
    waited, log = Waited(), Log()
    pace = pace_that_stands_back(waited, log)
    for is_last in (True, False):
        waited.seconds += TOOK
        assert pace.rest_after(log.batch(is_last=is_last), TOOK) == (LONGEST_PAUSE if is_last else 0.0)


def test_it_does_not_stand_back_for_good() -> None:
    waited, log = Waited(), Log()
    pace = pace_that_stands_back(waited, log)
    waited.seconds += TOOK
    log.now += STANDS_BACK_SECONDS
    assert pace.rest_after(log.batch(went=1, grew=2), TOOK) == 0.0


@pytest.mark.parametrize(("went", "grew", "behind"), [(30, 20, False), (30, 29, False), (30, 30, True), (30, 60, True)])
def test_who_falls_behind_follows_from_both_speeds(went: int, grew: int, behind: bool) -> None:
    log = Log()
    headway = Headway(log.clock)
    for _ in range(1 + CERTAIN):
        assert not headway.falls_behind, "too early to tell"
        log.now += TOOK
        headway.note(log.batch(went=went, grew=grew), TOOK)
    assert headway.falls_behind == behind
    headway.forget()
    assert not headway.falls_behind


def test_what_was_long_ago_is_outweighed() -> None:
    log = Log()
    headway = Headway(log.clock)
    for grew, behind in ((60, True), (20, False), (60, True)):
        for _ in range(50):
            log.now += TOOK
            headway.note(log.batch(went=30, grew=grew), TOOK)
        assert headway.falls_behind == behind


def test_while_it_rests_the_log_grows_and_the_relay_does_not_work() -> None:
    """From one batch to the next three times as long as the work, as a limit may have it: without, it would keep up."""
    log = Log()
    headway = Headway(log.clock)
    for _ in range(1 + CERTAIN):
        log.now += 3 * TOOK
        headway.note(log.batch(went=20, grew=30), TOOK)
    assert not headway.falls_behind


@pytest.mark.parametrize(("went", "grew"), [(30, 28), (30, 10), (30, 40)])
def test_the_lag_has_a_bound_where_the_relay_can_keep_up(went: int, grew: int) -> None:
    """A long load, with others at every processor all the time. `grew`: in the time that one batch takes."""
    log, waited = Log(), Waited()
    pace = RelayPace(waited=waited, clock=log.clock)
    lags: list[int] = []
    rested, rest = 0.0, 0.0
    for _ in range(2_000):
        log.now += TOOK + rest
        waited.seconds += TOOK
        batch = log.batch(went=went, grew=round(grew * (TOOK + rest) / TOOK))
        rest = pace.rest_after(batch, TOOK)
        rested += rest
        lags.append(batch.head.xmax - batch.position.xmax)
    if went > grew:
        assert rested == 0.0
        assert lags[-1] < lags[0]
    else:
        assert rested > 0.75 * 2_000 * TOOK, "it takes little"


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="the system does not tell")
def test_the_system_tells_how_long_a_thread_has_waited() -> None:
    """It has to share a processor with a process that never rests."""
    processor = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, {{{processor}}}); print(flush=True)\nwhile True: pass"

    def waited() -> float:
        os.sched_setaffinity(0, {processor})  # this thread's
        began, ends = waited_for_processor(), time.monotonic() + SOON
        while waited_for_processor() - began < 0.05 and time.monotonic() < ends:
            pass
        return waited_for_processor() - began

    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as other, ThreadPoolExecutor(1) as pool:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            assert pool.submit(waited).result() >= 0.05
        finally:
            other.kill()
