"""`BackgroundTaskManager`: the tasks that run executions: how many, how long, in how much memory, and their end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from uuid import UUID

import psutil
import structlog

from execution.errors import ServiceClosedError

log = structlog.get_logger(__name__)

MEMORY_CHECK_SECONDS = 1.0


class TooManyTasksError(RuntimeError):
    """Every slot is taken; look at `free_slots` first."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} background tasks are running, which is the limit; wait for one to end")


class BackgroundTaskManager:
    """Starts and stops the tasks of executions. One task per execution; a task that ends clears its own reference.

    Args:
        max_tasks: how many may run at once; None: no limit.
        time_limit: seconds after which a task is cancelled; None: no limit.
        memory_limit_mib: resident memory of the process above which `has_room` is False; None: no limit.
    """

    def __init__(
        self, *, max_tasks: int | None = None, time_limit: float | None = None, memory_limit_mib: int | None = None
    ) -> None:
        self._running_tasks: dict[UUID, asyncio.Task[Any]] = {}
        self._max_tasks = max_tasks
        self._time_limit = time_limit
        self._memory_limit = memory_limit_mib * 1024 * 1024 if memory_limit_mib else None
        self._process = psutil.Process()
        self._memory_checked_at = 0.0
        self._memory = 0
        self._closed = False
        self.on_slot_freed: Callable[[], None] | None = None
        """Called whenever a task ends or is cleared."""

    def __len__(self) -> int:
        return len(self._running_tasks)

    @property
    def free_slots(self) -> int:
        """How many tasks may still be started; 0 above the memory limit or after the stop."""
        if self._closed or (self._memory_limit is not None and self._is_over(self._memory_limit)):
            return 0
        if self._max_tasks is None:
            return 1_000_000
        return max(0, self._max_tasks - len(self._running_tasks))

    def start_task(self, execution_id: UUID, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as the background task of an execution.

        Raises:
            ServiceClosedError: after the stop.
            TooManyTasksError: at the limit.
            ValueError: the execution has a task already.
        """
        problem = self._reason_not_to_start(execution_id)
        if problem is not None:
            coro.close()
            raise problem
        if self._time_limit is not None:
            coro = _limited(coro, self._time_limit)
        # Not named after its execution: the text of an id for each of them costs more than it is ever worth.
        task = asyncio.get_running_loop().create_task(coro)
        self._running_tasks[execution_id] = task
        task.add_done_callback(partial(self._ended, execution_id))
        return task

    async def cancel_task(self, execution_id: UUID) -> None:
        """Cancel an execution's task and wait until it has ended; nothing happens if there is none."""
        task = self._running_tasks.get(execution_id)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    def get_task(self, execution_id: UUID) -> asyncio.Task[Any] | None:
        """The execution's task, if it has one."""
        return self._running_tasks.get(execution_id)

    def clear_task(self, execution_id: UUID) -> None:
        """Forget an execution's task and give its slot back; the task itself, if it still runs, is left alone."""
        if self._running_tasks.pop(execution_id, None) is not None:
            self._slot_freed()

    async def wait_idle(self, timeout: float) -> bool:  # noqa: ASYNC109 - not to run out is an answer, not an error
        """Wait until no task is left; False if `timeout` seconds were not enough."""
        give_up_at = time.monotonic() + timeout
        while self._running_tasks:
            remaining = give_up_at - time.monotonic()
            if remaining <= 0:
                return False
            await asyncio.wait(self._running_tasks.values(), timeout=remaining)
            await asyncio.sleep(0)  # let the ended tasks' callbacks clear their references
        return True

    async def stop(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - as above
        """Start nothing any more, cancel what runs and wait for it; a second stop does nothing."""
        self._closed = True
        for task in self._running_tasks.values():
            task.cancel()
        if not await self.wait_idle(timeout):
            log.warning("tasks.left_running", execution_ids=[str(one) for one in self._running_tasks])
            self._running_tasks.clear()

    def memory_mib(self) -> float:
        """Resident memory of this process, at most a second old."""
        now = time.monotonic()
        if now - self._memory_checked_at > MEMORY_CHECK_SECONDS:
            self._memory_checked_at = now
            self._memory = self._process.memory_info().rss
        return self._memory / 1024 / 1024

    def _slot_freed(self) -> None:
        if self.on_slot_freed is not None:
            self.on_slot_freed()

    def _is_over(self, memory_limit: int) -> bool:
        return self.memory_mib() * 1024 * 1024 > memory_limit

    def _reason_not_to_start(self, execution_id: UUID) -> Exception | None:
        if self._closed:
            return ServiceClosedError("The background task manager")
        if execution_id in self._running_tasks:
            return ValueError(f"execution {execution_id} has a background task already")
        if self._max_tasks is not None and len(self._running_tasks) >= self._max_tasks:
            return TooManyTasksError(self._max_tasks)
        return None

    def _ended(self, execution_id: UUID, task: asyncio.Task[Any]) -> None:
        if self._running_tasks.get(execution_id) is task:
            del self._running_tasks[execution_id]
            self._slot_freed()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.failed", execution_id=str(execution_id), exc_info=error)


async def _limited(coro: Coroutine[Any, Any, Any], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await coro
