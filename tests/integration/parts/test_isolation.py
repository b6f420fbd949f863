"""Blocking handlers: in a thread of their own, or in a process of their own that can be killed."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from execution.domain.execution import Execution, JsonObject
from execution.domain.state import ExecutionState
from execution.errors import InvalidProgressError
from execution.handlers import HandlerRegistry, TaskContext
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support import process_handlers
from tests.support.service import PATIENCE, ended, reached, running_worker, short_settings
from tests.support.waiting import eventually

S = ExecutionState
KIND = "under.test"


@pytest.fixture
def registry() -> HandlerRegistry:
    return HandlerRegistry()


@pytest.fixture
async def run(database_url: str, registry: HandlerRegistry) -> AsyncIterator[Callable[..., Any]]:
    """Runs a function as a handler, and gives the execution at its end."""
    async with open_service(short_settings(database_url), registry=registry) as service:

        async def run(function: Callable[..., Any], **options: Any) -> Execution:
            service.registry.register(KIND, function, **options)
            async with running_worker(service):
                execution = await service.create_execution(KIND, {"n": 1})
                return await ended(service, execution.id)

        yield run


async def start(service: ExecutionService, function: Callable[..., Any], pid_file: Path) -> tuple[Execution, list[int]]:
    """Start a handler in a process; the pids it and its programs have."""
    execution = await service.create_execution(KIND, {"pid_file": str(pid_file)})
    words = await eventually(lambda: _words(pid_file), within=PATIENCE, what="the handler has started")
    return execution, [int(word) for word in words]


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class TestThread:
    async def test_it_runs_beside_the_event_loop(self, run: Callable[..., Any]) -> None:
        threads: list[threading.Thread] = []

        def handler(context: TaskContext, parameters: JsonObject) -> JsonObject:
            threads.append(threading.current_thread())
            context.progress(50, "half")
            return {"parameters": parameters, "key": context.idempotency_key}

        after = await run(handler)
        assert after.result == {"parameters": {"n": 1}, "key": str(after.id)}
        assert after.progress.percentage == 50
        assert threads[0] is not threading.main_thread()
        assert threads[0].daemon, "an abandoned thread must not keep the process from ending"

    async def test_what_is_wrong_with_a_report_is_raised_in_the_handler(self, run: Callable[..., Any]) -> None:
        def handler(context: TaskContext, parameters: JsonObject) -> JsonObject:
            with pytest.raises(InvalidProgressError):
                context.progress(101)
            return {"caught": True}

        assert (await run(handler)).result == {"caught": True}

    @pytest.mark.parametrize("error", [StopIteration("x"), SystemExit("x"), KeyboardInterrupt("x"), ValueError("x")])
    async def test_whatever_it_raises_is_its_outcome(self, run: Callable[..., Any], error: BaseException) -> None:
        def handler(context: TaskContext, parameters: JsonObject) -> None:
            raise error

        after = await run(handler)
        assert (after.state, after.error) == (S.FAILED, {"type": type(error).__name__, "message": "x"})

    async def test_it_stops_when_it_asks_whether_it_should(self, database_url: str, registry: HandlerRegistry) -> None:
        started = threading.Event()

        def handler(context: TaskContext, parameters: JsonObject) -> None:
            started.set()
            while not context.cancelled:
                pass
            context.raise_if_cancelled()

        registry.register(KIND, handler)
        async with open_service(short_settings(database_url), registry=registry) as service, running_worker(service):
            execution = await service.create_execution(KIND)
            assert await asyncio.to_thread(started.wait, PATIENCE)
            await service.cancel_execution(execution.id)
            after = await ended(service, execution.id)
        assert (after.state, after.error) == (S.CANCELLED, None)

    async def test_it_has_no_pause_points(self, run: Callable[..., Any]) -> None:
        after = await run(process_handlers.hold)
        assert after.error is not None
        assert "declare it `async def`" in after.error["message"]


class TestProcess:
    async def test_what_it_sees_and_returns(self, run: Callable[..., Any]) -> None:
        after = await run(process_handlers.identify, isolation="process")
        assert after.result is not None
        assert after.result.pop("pid") == after.progress.context["pid"] != os.getpid()
        assert after.result == {
            "id": str(after.id),
            "key": str(after.id),
            "kind": KIND,
            "attempt": 1,
            "parameters": {"n": 1},
        }

    async def test_a_part_of_a_result(self, run: Callable[..., Any]) -> None:
        after = await run(process_handlers.partly, isolation="process")
        assert (after.state, after.result) == (S.PARTIAL_SUCCESS, {"half": 1})

    @pytest.mark.parametrize(
        ("function", "error_type", "message"),
        [
            (process_handlers.fail, "LookupError", "no such page"),
            (process_handlers.leave, "SystemExit", "usage"),
            (process_handlers.die, "ChildDiedError", "exit code 3"),
            (process_handlers.return_a_lock, "", "cannot be sent"),
            (process_handlers.report_nonsense, "InvalidDocumentError", "nan is not a JSON number"),
            (process_handlers.hold, "RuntimeError", "declare it `async def`"),
        ],
    )
    async def test_how_it_can_fail(
        self, run: Callable[..., Any], function: Callable[..., Any], error_type: str, message: str
    ) -> None:
        after = await run(function, isolation="process")
        assert (after.state, after.result) == (S.FAILED, None)
        assert after.error is not None
        assert after.error["type"].startswith(error_type)
        assert message in after.error["message"]

    async def test_it_obeys_a_cancellation(self, database_url: str, registry: HandlerRegistry, tmp_path: Path) -> None:
        registry.register(KIND, process_handlers.obey, isolation="process")
        async with open_service(short_settings(database_url), registry=registry) as service, running_worker(service):
            execution, pids = await start(service, process_handlers.obey, tmp_path / "pid")
            await service.cancel_execution(execution.id)
            after = await ended(service, execution.id)
        assert (after.state, after.error) == (S.CANCELLED, None)
        assert all(is_gone(pid) for pid in pids)

    async def test_one_that_ignores_it_is_killed_with_all_it_started(
        self, database_url: str, registry: HandlerRegistry, tmp_path: Path
    ) -> None:
        registry.register(KIND, process_handlers.ignore, isolation="process")
        async with open_service(short_settings(database_url), registry=registry) as service, running_worker(service):
            execution, pids = await start(service, process_handlers.ignore, tmp_path / "pid")
            await service.cancel_execution(execution.id)
            assert (await reached(service, execution.id, S.CANCELLING)).deadline is not None
            after = await ended(service, execution.id)
            await eventually(lambda: all(is_gone(pid) for pid in pids), within=5, what="all its processes are gone")
        assert (after.state, after.error) == (S.CANCELLED, None)
        assert len(pids) == 2

    async def test_a_time_limit_ends_it(self, database_url: str, registry: HandlerRegistry, tmp_path: Path) -> None:
        registry.register(KIND, process_handlers.ignore, isolation="process")
        async with open_service(short_settings(database_url), registry=registry) as service, running_worker(service):
            execution = await service.create_execution(KIND, {"pid_file": str(tmp_path / "pid")}, start_to_close=0.8)
            after = await ended(service, execution.id)
        assert after.error is not None
        assert (after.state, after.error["type"]) == (S.FAILED, "start_to_close_timeout")
