"""One operation in two forms: awaited, and waited for from the machine's thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from execution.errors import OutcomeUnknownError
from execution.steps.handlers import blocking
from execution.steps.handlers.blocking import BlockingHandler, CalledOnLoopError
from execution.steps.model import ExecutionContext, JobStep, StepOutput, identity_of
from tests.support.step_calls import context_of

STEP = JobStep(step_index=0, step_type="awaited", target="x")


class Awaited:
    """Says in which thread and loop it ran."""

    name = "awaited"
    version = "7"
    idempotent = True

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self.hold: asyncio.Event | None = None
        self.was_cancelled = threading.Event()

    async def execute(self, step: JobStep, _context: ExecutionContext) -> StepOutput:
        self.loop, self.thread = asyncio.get_running_loop(), threading.get_ident()
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        if step.target == "timeout":
            raise TimeoutError("the handler's own")
        return StepOutput(success=True, output={"target": step.target})


def test_it_says_who_it_is() -> None:
    identity = identity_of(BlockingHandler(Awaited()))
    assert (identity.name, identity.version, identity.idempotent) == ("awaited", "7", True)


async def test_apart_it_does_not_mind_a_running_loop() -> None:
    handler = Awaited()
    assert BlockingHandler(handler).execute(STEP, context_of(STEP)).output == {"target": "x"}
    assert handler.loop is not asyncio.get_running_loop()


async def test_on_a_loop_the_work_is_done_there() -> None:
    handler, loop = Awaited(), asyncio.get_running_loop()
    output = await asyncio.to_thread(BlockingHandler(handler, loop).execute, STEP, context_of(STEP))
    assert output.success
    assert (handler.loop, handler.thread) == (loop, threading.get_ident())


async def test_on_its_own_loop_it_says_what_to_do_instead_of_waiting_for_itself() -> None:
    handler = Awaited()
    with pytest.raises(CalledOnLoopError, match=r"await asyncio\.to_thread"):
        BlockingHandler(handler, asyncio.get_running_loop()).execute(STEP, context_of(STEP))
    assert handler.loop is None


async def test_what_takes_too_long_is_cancelled_and_its_outcome_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "PATIENCE_SECONDS", 0.05)
    handler = Awaited()
    handler.hold = asyncio.Event()
    with pytest.raises(OutcomeUnknownError):
        await asyncio.to_thread(BlockingHandler(handler, asyncio.get_running_loop()).execute, STEP, context_of(STEP))
    assert await asyncio.to_thread(handler.was_cancelled.wait, 5)


@pytest.mark.parametrize("apart", [True, False])
async def test_a_handlers_own_error_comes_out_as_it_is(apart: bool) -> None:
    step = JobStep(step_index=0, step_type="awaited", target="timeout")
    handler = BlockingHandler(Awaited(), None if apart else asyncio.get_running_loop())
    with pytest.raises(TimeoutError, match="the handler's own"):
        await asyncio.to_thread(handler.execute, step, context_of(step))
