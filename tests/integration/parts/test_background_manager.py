"""`BackgroundTaskManager`: tasks by execution, their limits, and their end."""

from __future__ import annotations

import asyncio
import gc
from uuid import UUID

import pytest

from execution.background_manager import BackgroundTaskManager, TooManyTasksError
from execution.errors import ServiceClosedError
from execution.ids import new_id
from tests.support.waiting import no_leaked_tasks

LONG = 30.0


async def endless() -> None:
    await asyncio.Event().wait()


async def settled() -> None:
    """Let the callbacks of ended tasks run."""
    await asyncio.sleep(0)


@pytest.fixture
def one() -> UUID:
    return new_id()


class TestStartTask:
    async def test_it_runs_the_coroutine_and_clears_the_reference_at_its_end(self, one: UUID) -> None:
        manager = BackgroundTaskManager()
        let_go = asyncio.Event()

        async def work() -> str:
            await let_go.wait()
            return "done"

        task = manager.start_task(one, work())
        assert manager.get_task(one) is task
        assert len(manager) == 1
        let_go.set()
        assert await task == "done"
        await settled()
        assert manager.get_task(one) is None
        assert len(manager) == 0

    async def test_one_task_per_execution(self, one: UUID) -> None:
        manager = BackgroundTaskManager()
        first = manager.start_task(one, endless())
        with pytest.raises(ValueError, match=f"{one} has a background task already"):
            manager.start_task(one, endless())
        assert manager.get_task(one) is first
        await manager.stop()

    async def test_no_more_than_the_limit_and_never_an_unawaited_coroutine(self) -> None:
        manager = BackgroundTaskManager(max_tasks=2)
        for _ in range(2):
            manager.start_task(new_id(), endless())
        assert manager.free_slots == 0
        with pytest.raises(TooManyTasksError, match="2 background tasks"):
            manager.start_task(new_id(), endless())
        gc.collect()  # a coroutine that was not closed would warn here, and warnings are errors
        await manager.stop()

    async def test_a_failure_ends_the_task_and_nothing_else(self, one: UUID) -> None:
        manager = BackgroundTaskManager()
        other = manager.start_task(new_id(), endless())

        async def fail() -> None:
            raise RuntimeError("boom")

        task = manager.start_task(one, fail())
        await asyncio.wait([task])
        await settled()
        assert manager.get_task(one) is None
        assert not other.done()
        await manager.stop()

    async def test_a_task_past_the_time_limit_is_ended(self, one: UUID) -> None:
        manager = BackgroundTaskManager(time_limit=0.01)
        task = manager.start_task(one, endless())
        async with asyncio.timeout(LONG):
            await asyncio.wait([task])
        assert isinstance(task.exception(), TimeoutError)
        await settled()
        assert len(manager) == 0


class TestCancelTask:
    async def test_it_waits_for_the_tasks_own_end(self, one: UUID) -> None:
        manager = BackgroundTaskManager()
        said: list[str] = []

        async def tidy() -> None:
            try:
                await endless()
            finally:
                await asyncio.sleep(0)
                said.append("tidied up")

        manager.start_task(one, tidy())
        await settled()
        await manager.cancel_task(one)
        assert said == ["tidied up"]
        assert manager.get_task(one) is None

    async def test_without_a_task_nothing_happens(self, one: UUID) -> None:
        manager = BackgroundTaskManager()
        await manager.cancel_task(one)
        manager.clear_task(one)
        assert len(manager) == 0

    async def test_a_task_may_name_itself(self, one: UUID) -> None:
        manager = BackgroundTaskManager()

        async def suicidal() -> str:
            await manager.cancel_task(one)
            return "still here"

        assert await manager.start_task(one, suicidal()) == "still here"


class TestClearTask:
    async def test_it_gives_the_slot_back_and_leaves_the_task_alone(self, one: UUID) -> None:
        manager = BackgroundTaskManager(max_tasks=1)
        freed: list[int] = []
        manager.on_slot_freed = lambda: freed.append(manager.free_slots)
        let_go = asyncio.Event()
        abandoned = manager.start_task(one, let_go.wait())
        manager.clear_task(one)
        assert freed == [1]
        assert not abandoned.done()

        successor = manager.start_task(one, endless())
        let_go.set()
        await abandoned
        await settled()
        assert manager.get_task(one) is successor, "the end of the abandoned task clears only its own reference"
        assert freed == [1]
        await manager.stop()


class TestMemory:
    async def test_above_the_limit_nothing_has_room(self, one: UUID) -> None:
        manager = BackgroundTaskManager(max_tasks=5, memory_limit_mib=1)
        assert manager.memory_mib() > 1
        assert manager.free_slots == 0

    async def test_below_it_there_is(self) -> None:
        assert BackgroundTaskManager(max_tasks=5, memory_limit_mib=1_000_000).free_slots == 5


class TestStop:
    async def test_it_cancels_waits_and_starts_nothing_any_more(self, one: UUID) -> None:
        manager = BackgroundTaskManager(max_tasks=3)
        async with no_leaked_tasks():
            tasks = [manager.start_task(new_id(), endless()) for _ in range(3)]
            await manager.stop()
            assert all(task.cancelled() for task in tasks)
        assert manager.free_slots == 0
        with pytest.raises(ServiceClosedError):
            manager.start_task(one, endless())

    async def test_twice_or_before_anything_was_started(self) -> None:
        manager = BackgroundTaskManager()
        await manager.stop()
        await manager.stop()
        assert len(manager) == 0

    async def test_a_task_that_does_not_end_is_left_behind_after_the_time_given(self, one: UUID) -> None:
        manager = BackgroundTaskManager()
        let_go = asyncio.Event()

        async def deaf() -> None:
            while not let_go.is_set():
                try:
                    await let_go.wait()
                except asyncio.CancelledError:
                    continue

        task = manager.start_task(one, deaf())
        await settled()
        await manager.stop(timeout=0.01)
        assert len(manager) == 0
        let_go.set()
        await task


class TestWaitIdle:
    async def test_it_says_whether_the_time_was_enough(self, one: UUID) -> None:
        manager = BackgroundTaskManager()
        let_go = asyncio.Event()
        manager.start_task(one, let_go.wait())
        assert await manager.wait_idle(0.01) is False
        let_go.set()
        assert await manager.wait_idle(LONG) is True
