"""A few begin per turn of the loop, in their order."""

from __future__ import annotations

import asyncio
from functools import partial

from execution.api.turnstile import AT_ONCE, Turnstile


async def turns(turnstile: Turnstile, crowd: int) -> list[list[int]]:
    """Who begins in which turn of the loop, of a crowd that arrives in the first one."""
    loop = asyncio.get_running_loop()
    begun: list[int] = []
    for number in range(crowd):
        turnstile.enter(partial(begun.append, number), loop)
    seen: list[list[int]] = []
    while begun or not seen:
        seen.append(begun.copy())
        begun.clear()
        await asyncio.sleep(0)
    return seen


async def test_who_comes_alone_begins_at_once() -> None:
    turnstile = Turnstile()
    for _ in range(3):
        assert await turns(turnstile, 1) == [[0]]


async def test_a_crowd_is_spread_over_turns() -> None:
    turnstile = Turnstile()
    for _ in range(2):
        seen = await turns(turnstile, 3 * AT_ONCE + 1)
        assert [number for turn in seen for number in turn] == list(range(3 * AT_ONCE + 1))
        assert max(map(len, seen)) == AT_ONCE
