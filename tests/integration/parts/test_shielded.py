"""`to_its_end`: what has begun ends, and the caller's cancellation counts afterwards."""

from __future__ import annotations

import asyncio

import pytest

from execution.shielded import to_its_end


async def answered(may_go_on: asyncio.Event) -> str:
    await may_go_on.wait()
    return "answer"


async def refused(may_go_on: asyncio.Event) -> str:
    await may_go_on.wait()
    raise LookupError("nothing there")


async def turn() -> None:
    """Let every task go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_undisturbed_it_is_an_await() -> None:
    may_go_on = asyncio.Event()
    may_go_on.set()
    assert await to_its_end(answered(may_go_on)) == "answer"
    with pytest.raises(LookupError):
        await to_its_end(refused(may_go_on))


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancellations_wait_for_the_end(times: int) -> None:
    may_go_on = asyncio.Event()
    caller = asyncio.create_task(to_its_end(answered(may_go_on)))
    for _ in range(times):
        await turn()
        caller.cancel()
    await turn()
    assert not caller.done()
    may_go_on.set()
    await asyncio.wait([caller])
    assert caller.cancelled()


async def test_a_time_limit_is_told_after_the_end() -> None:
    may_go_on = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, may_go_on.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await to_its_end(answered(may_go_on))
    assert may_go_on.is_set()


async def test_an_error_is_told_even_to_a_cancelled_caller() -> None:
    may_go_on = asyncio.Event()
    caller = asyncio.create_task(to_its_end(refused(may_go_on)))
    await turn()
    caller.cancel()
    may_go_on.set()
    with pytest.raises(LookupError):
        await caller
