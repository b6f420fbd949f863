"""Kind `noop`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from execution.builtin.noop import noop
from execution.errors import InvalidDocumentError
from tests.support.recording_context import RecordingContext


@dataclass(kw_only=True)
class PausedContext(RecordingContext):
    """Holds the handler at its pause point until resumed."""

    held: asyncio.Event = field(default_factory=asyncio.Event)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)

    async def pause_point(self) -> None:
        self.held.set()
        await self.resumed.wait()


async def test_without_parameters_it_returns_at_once_and_touches_nothing() -> None:
    context = RecordingContext()
    running = noop(context, {})
    with pytest.raises(StopIteration) as ended:
        running.send(None)  # one step: it never gave the loop a turn
    assert ended.value.value == {}
    assert (context.percentages, context.pause_points) == ([], 0)


async def test_it_reports_progress_evenly() -> None:
    context = RecordingContext()
    assert await noop(context, {"progress_reports": 4}) == {}
    assert context.percentages == [25, 50, 75, 100]
    assert context.messages[0] == "1 of 4"


async def test_it_lasts_as_long_as_asked_in_slices() -> None:
    context = RecordingContext()
    started = time.monotonic()
    await noop(context, {"seconds": 0.25})
    assert time.monotonic() - started >= 0.25
    assert context.pause_points >= 3
    assert context.percentages == []


async def test_it_is_held_while_paused() -> None:
    context = PausedContext()
    running = asyncio.create_task(noop(context, {"progress_reports": 1}))
    await asyncio.wait_for(context.held.wait(), 5)
    assert context.percentages == []
    context.resumed.set()
    await asyncio.wait_for(running, 5)
    assert context.percentages == [100]


async def test_it_obeys_cancellation() -> None:
    context = PausedContext()
    context.resumed.set()
    running = asyncio.create_task(noop(context, {"seconds": 3600}))
    await asyncio.wait_for(context.held.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)


@pytest.mark.parametrize(
    "parameters",
    [
        {"seconds": -1},
        {"seconds": 3601},
        {"seconds": float("nan")},
        {"progress_reports": 1001},
        {"progress_reports": 0.5},
        {"second": 1},
    ],
)
async def test_it_refuses_unfit_parameters_by_name(parameters: dict[str, object]) -> None:
    with pytest.raises(InvalidDocumentError, match=next(iter(parameters))):
        await noop(RecordingContext(), parameters)
