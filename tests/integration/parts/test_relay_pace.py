"""How long a relay rests: pure arithmetic, but for the one reading of the system's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from execution.process import waited_for_processor
from execution.relay_pace import (
    FEW,
    LOAD,
    LONGEST_PAUSE,
    LONGEST_STANDING_BACK,
    OWN_SHARE,
    PAUSE,
    STANDING_BACK,
    RelayPace,
)

SOON = 10.0


class Waited:
    """A relay's waiting for a processor, as the system would count it."""

    def __init__(self) -> None:
        self.seconds = 7.0

    def __call__(self) -> float:
        return self.seconds


def test_what_comes_in_gathers_for_a_part_of_the_time() -> None:
    pace = RelayPace()
    assert pace.rest_after(FEW, 0.004, is_last=True) == pytest.approx(PAUSE * 0.004)
    assert pace.rest_after(FEW, 4.0, is_last=True) == LONGEST_PAUSE
    assert pace.rest_after(FEW, 4.0, is_last=False) == 0.0


def test_few_events_do_not_wait_for_more() -> None:
    assert RelayPace().rest_after(FEW - 1, 0.004, is_last=True) == 0.0


def test_a_limit_is_kept() -> None:
    pace = RelayPace(most_per_second=100)
    assert pace.rest_after(50, 0.1, is_last=False) == pytest.approx(0.4)
    assert pace.rest_after(50, 0.6, is_last=False) == 0.0


def test_it_rests_as_long_as_others_needed_the_processors() -> None:
    waited = Waited()
    pace = RelayPace(waited=waited)
    assert pace.rest_after(LOAD, 0.1, is_last=False) == 0.0, "what was before it began does not count"
    waited.seconds += 0.08
    assert pace.rest_after(LOAD, 0.1, is_last=False) == pytest.approx(STANDING_BACK * (0.08 - OWN_SHARE * 0.1))
    assert pace.rest_after(LOAD, 0.1, is_last=False) == 0.0, "only what was since the last batch"
    waited.seconds += 5.0
    assert pace.rest_after(LOAD, 5.0, is_last=False) == LONGEST_STANDING_BACK


def test_it_does_not_rest_for_what_works_for_it() -> None:
    waited = Waited()
    pace = RelayPace(waited=waited)
    waited.seconds += 0.02
    assert pace.rest_after(LOAD, 0.1, is_last=False) == 0.0


def test_it_stands_back_with_loads_only() -> None:
    """Few events cost little, and somebody may be waiting for them."""
    waited = Waited()
    pace = RelayPace(waited=waited)
    waited.seconds += 0.1
    assert pace.rest_after(LOAD - 1, 0.1, is_last=False) == 0.0


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
