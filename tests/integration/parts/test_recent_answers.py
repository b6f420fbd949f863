"""Answers that are kept for a moment."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from execution.recent_answers import RecentAnswers
from tests.support.waiting import no_leaked_tasks


class Oracle:
    """Counts what it is asked, and answers when it may."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(self, question: int) -> int | None:
        self.asked.append(question)
        await self.may_answer.wait()
        if question < 0:
            raise ValueError(question)
        return question * 2 if question else None


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


async def test_an_answer_is_kept_for_its_time(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("execution.recent_answers.time", SimpleNamespace(monotonic=lambda: now))
    answers = RecentAnswers(oracle.ask, seconds=5, limit=10)
    assert [await answers.get(7), await answers.get(7)] == [14, 14]
    assert 7 in answers
    now += 4.9
    assert (7 in answers, await answers.get(7)) == (True, 14)
    assert oracle.asked == [7]
    now += 0.1
    assert 7 not in answers
    assert await answers.get(7) == 14
    assert oracle.asked == [7, 7]


async def test_that_there_is_none_is_an_answer_too(oracle: Oracle) -> None:
    answers = RecentAnswers(oracle.ask, seconds=60, limit=10)
    assert [await answers.get(0), await answers.get(0)] == [None, None]
    assert oracle.asked == [0]


async def test_an_error_is_not_kept(oracle: Oracle) -> None:
    answers = RecentAnswers(oracle.ask, seconds=60, limit=10)
    for _ in range(2):
        with pytest.raises(ValueError, match="-1"):
            await answers.get(-1)
    assert oracle.asked == [-1, -1]


async def test_many_at_once_ask_once_also_when_the_first_one_leaves(oracle: Oracle) -> None:
    answers = RecentAnswers(oracle.ask, seconds=60, limit=10)
    oracle.may_answer.clear()
    async with no_leaked_tasks():
        asking = [asyncio.create_task(answers.get(7)) for _ in range(50)]
        await asyncio.sleep(0)
        asking[0].cancel()
        oracle.may_answer.set()
        assert await asyncio.gather(*asking[1:]) == [14] * 49
    assert oracle.asked == [7]


async def test_the_oldest_answer_makes_room(oracle: Oracle) -> None:
    answers = RecentAnswers(oracle.ask, seconds=60, limit=2)
    for question in (1, 2, 3):
        await answers.get(question)
    assert [question in answers for question in (1, 2, 3)] == [False, True, True]


async def test_a_stop_breaks_off_what_is_asked(oracle: Oracle) -> None:
    answers = RecentAnswers(oracle.ask, seconds=60, limit=2)
    oracle.may_answer.clear()
    async with no_leaked_tasks():
        asking = asyncio.create_task(answers.get(7))
        await asyncio.sleep(0)
        await answers.stop()
        with pytest.raises(asyncio.CancelledError):
            await asking
