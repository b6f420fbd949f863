"""`LoopWatchdog`: it says that the event loop is blocked, and where."""

from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from execution.watchdog import LoopWatchdog
from tests.support.waiting import eventually

THRESHOLD = 0.1


def block_the_loop_like_a_handler() -> None:
    until = time.monotonic() + 5 * THRESHOLD
    while time.monotonic() < until:
        pass


@pytest.fixture
def watchdog() -> LoopWatchdog:
    return LoopWatchdog(THRESHOLD)


async def test_a_blocked_loop_is_reported_with_the_place(watchdog: LoopWatchdog) -> None:
    with capture_logs() as logs:
        task = asyncio.create_task(watchdog.run())
        await asyncio.sleep(0)
        block_the_loop_like_a_handler()
        await eventually(lambda: logs, within=5, what="a warning")
        task.cancel()
        await asyncio.wait([task])
    warning = next(entry for entry in logs if entry["event"] == "worker.loop_blocked")
    assert warning["seconds"] >= THRESHOLD
    assert "block_the_loop_like_a_handler" in warning["stack"]


async def test_a_loop_that_is_on_time_is_not(watchdog: LoopWatchdog) -> None:
    with capture_logs() as logs:
        task = asyncio.create_task(watchdog.run())
        await asyncio.wait([task], timeout=3 * THRESHOLD)
        task.cancel()
        await asyncio.wait([task])
    assert logs == []
    assert watchdog.last_lag == 0
