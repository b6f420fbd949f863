"""`ExecutionTaskRunner`: invoke, classify, persist."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from execution.domain.commands import Cancel, Finish, Pause, Resume
from execution.domain.execution import Execution, JsonObject
from execution.domain.outcome import Failed, PartialSuccess
from execution.domain.state import ExecutionState
from execution.handlers import TaskContext
from tests.support.service import Counted
from tests.support.stored import AnyConnection, waiting_sessions
from tests.support.task_bench import KIND, Bench, Gate
from tests.support.waiting import eventually

S = ExecutionState


class TestOutcomes:
    @pytest.mark.parametrize(
        ("value", "result"),
        [({"a": (1, 2)}, {"a": [1, 2]}), (None, {}), ("text", {"value": "text"}), ([], {"value": []})],
    )
    async def test_what_it_returns_is_the_result(self, bench: Bench, value: Any, result: JsonObject) -> None:
        async def handler(context: TaskContext, parameters: JsonObject) -> Any:
            return value

        after = await bench.run(handler)
        assert (after.state, after.result, after.error) == (S.COMPLETED, result, None)
        assert bench.runner.runs == {}

    async def test_a_part_of_a_result(self, bench: Bench) -> None:
        async def handler(context: TaskContext, parameters: JsonObject) -> PartialSuccess:
            return PartialSuccess({"pages": 3}, missing="page 4")

        after = await bench.run(handler)
        assert (after.state, after.result) == (S.PARTIAL_SUCCESS, {"pages": 3})
        assert after.error == {"type": "partial", "message": "page 4"}

    async def test_what_it_raises_is_the_error(self, bench: Bench) -> None:
        async def handler(context: TaskContext, parameters: JsonObject) -> None:
            raise LookupError("no such page")

        after = await bench.run(handler)
        assert (after.state, after.result) == (S.FAILED, None)
        assert after.error == {"type": "LookupError", "message": "no such page"}

    @pytest.mark.parametrize(
        ("value", "named"),
        [
            ({1, 2}, "set"),
            ({"x": float("nan")}, "nan is not a JSON number"),
            ({"x": "y" * 300_000}, "300,"),
            ({"x": 2**70}, "64-bit"),
            ({"x": object()}, "object"),
            ({"x": "\x00"}, "NUL"),
        ],
    )
    async def test_what_json_cannot_hold_fails_the_execution(self, bench: Bench, value: Any, named: str) -> None:
        async def handler(context: TaskContext, parameters: JsonObject) -> Any:
            return value

        after = await bench.run(handler)
        assert (after.state, after.result) == (S.FAILED, None)
        assert after.error is not None
        assert named in after.error["message"]
        assert after.error["type"] in {"InvalidDocumentError", "DocumentTooLargeError"}

    @pytest.mark.parametrize("is_blocking", [False, True])
    async def test_leaving_the_program_ends_the_run_and_not_the_worker(self, bench: Bench, is_blocking: bool) -> None:
        def leave(context: TaskContext, parameters: JsonObject) -> None:
            sys.exit("usage: ...")

        async def leave_too(context: TaskContext, parameters: JsonObject) -> None:
            sys.exit("usage: ...")

        after = await bench.run(leave if is_blocking else leave_too)
        assert after.error == {"type": "SystemExit", "message": "usage: ..."}

    async def test_a_kind_that_is_not_registered_here_any_more(self, bench: Bench) -> None:
        execution = await bench.claim()
        await bench.runner.execute_task(execution)
        after = await bench.after(execution.id)
        assert after.error is not None
        assert (after.state, after.error["type"]) == (S.FAILED, "UnknownKindError")


class TestPersisting:
    async def test_the_last_progress_and_the_end_are_one_write(self, bench: Bench) -> None:
        async def handler(context: TaskContext, parameters: JsonObject) -> None:
            context.progress(100, "all of it", {"pages": 4})

        after = await bench.run(handler)
        assert (after.progress.percentage, after.progress.context) == (100, {"pages": 4})
        assert after.version == 6, "created, pending, running, progress, completed state, completed"

    async def test_a_message_that_cannot_be_stored_spoils_nothing(self, bench: Bench) -> None:
        async def handler(context: TaskContext, parameters: JsonObject) -> JsonObject:
            context.progress(50, "reading caf\udce9.txt")
            return {"read": 1}

        after = await bench.run(handler)
        assert (after.state, after.progress.message) == (S.COMPLETED, "reading caf\ufffd.txt")

    async def test_what_postgresql_refuses_to_store_still_ends_the_execution(
        self, bench: Bench, database_url: str
    ) -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute("ALTER TABLE executions ADD CONSTRAINT no_poison CHECK (NOT result ? 'poison')")
        await connection.close()

        async def handler(context: TaskContext, parameters: JsonObject) -> JsonObject:
            context.progress(50)
            return {"poison": True}

        after = await bench.run(handler)
        assert after.error is not None
        assert (after.state, after.error["type"]) == (S.FAILED, "DatabaseError")
        assert "no_poison" in after.error["message"]

    async def test_cancelling_the_task_while_it_records_loses_nothing(self, bench: Bench, database_url: str) -> None:
        gate = Gate.new()
        bench.registry.register(KIND, gate.handle)
        execution = await bench.claim()
        blocker = await asyncpg.connect(database_url)
        task = asyncio.create_task(bench.runner.execute_task(execution))
        await gate.has_started()
        async with blocker.transaction():
            await blocker.execute("SELECT FROM executions WHERE id = $1 FOR UPDATE", execution.id)
            gate.let_go.set()
            run = bench.run_of(execution)
            await eventually(lambda: not run.invoking, within=5, what="the handler has ended")
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
        await blocker.close()
        await task
        assert (await bench.after(execution.id)).result == {"went": "through"}

    async def test_a_run_that_was_fenced_off_writes_nothing(self, bench: Bench) -> None:
        gate = Gate.new()
        bench.registry.register(KIND, gate.handle)
        execution = await bench.claim()
        task = asyncio.create_task(bench.runner.execute_task(execution))
        await gate.has_started()
        from_outside = Finish(outcome=Failed(error={"type": "outside", "message": ""}), by_holder=False)
        fenced = await bench.manager.apply(execution.id, from_outside)
        gate.let_go.set()
        await task
        assert await bench.after(execution.id) == fenced


class TestStopping:
    async def test_a_cancellation_reaches_the_handler(self, bench: Bench) -> None:
        gate = Gate.new()
        bench.registry.register(KIND, gate.handle)
        execution = await bench.claim()
        task = asyncio.create_task(bench.runner.execute_task(execution))
        await gate.has_started()
        await bench.manager.apply(execution.id, Cancel(reason="enough"))
        await bench.tell_of(execution)
        await task
        after = await bench.after(execution.id)
        assert (after.state, after.error) == (S.CANCELLED, None)

    async def test_a_handler_that_finishes_all_the_same_counts_as_finished(self, bench: Bench) -> None:
        started = asyncio.Event()

        async def stubborn(context: TaskContext, parameters: JsonObject) -> JsonObject:
            started.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return {"finished": context.cancelled}

        bench.registry.register(KIND, stubborn)
        execution = await bench.claim()
        task = asyncio.create_task(bench.runner.execute_task(execution))
        await started.wait()
        await bench.manager.apply(execution.id, Cancel())
        await bench.tell_of(execution)
        await task
        after = await bench.after(execution.id)
        assert (after.state, after.result) == (S.COMPLETED, {"finished": True})

    async def test_the_end_of_a_given_up_run_leaves_the_next_run_of_the_execution_alone(self, bench: Bench) -> None:
        """Both in this process: the second must stay known to the worker, or no command would reach it any more."""
        gate = Gate.new()

        bench.registry.register(KIND, gate.handle)
        execution = await bench.claim()
        first = asyncio.create_task(bench.runner.execute_task(execution))
        await gate.has_started()
        from_outside = Finish(outcome=Failed(error={"type": "outside", "message": ""}), by_holder=False)
        await bench.manager.apply(execution.id, from_outside)
        await bench.manager.change_state(execution.id, S.PENDING)
        (again,) = await bench.store.claim(bench.worker_id, {KIND: False}, 1)
        second = asyncio.create_task(bench.runner.execute_task(again))
        await gate.has_started()
        first.cancel()
        await first
        assert bench.run_of(again).execution.attempt == 2
        gate.let_go.set()
        await second
        assert (await bench.after(execution.id)).result == {"went": "through"}
        assert bench.runner.runs == {}


class TestPausePoint:
    async def test_it_holds_the_handler_until_the_resume(self, bench: Bench) -> None:
        gate, execution, task = await self._stands_paused(bench)
        assert not task.done()
        await bench.manager.apply(execution.id, Resume())
        await bench.tell_of(execution)
        await task
        after = await bench.after(execution.id)
        assert (after.state, gate.runs) == (S.COMPLETED, 1)

    async def test_a_review_that_was_late_does_not_end_the_pause(self, bench: Bench, database_url: str) -> None:
        """It read RUNNING before the pause was committed, and says so while the write is under way."""
        gate, execution, task, asked = await self._asked_to_pause(bench)
        blocker = await asyncpg.connect(database_url)
        run = bench.run_of(execution)
        async with blocker.transaction():
            await blocker.execute("SELECT FROM executions WHERE id = $1 FOR UPDATE", execution.id)
            gate.let_go.set()

            await eventually(lambda: waiting_sessions(blocker), within=5, what="the pause is being written")
            run.observe(asked)
        await blocker.close()
        await self._is_paused(bench, execution)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        assert run.execution.state is S.PAUSED
        await bench.manager.apply(execution.id, Resume())
        await bench.tell_of(execution)
        await task

    async def test_a_cancel_reaches_a_handler_that_stands_at_it(self, bench: Bench) -> None:
        _, execution, task = await self._stands_paused(bench)
        await bench.manager.apply(execution.id, Cancel())
        await bench.tell_of(execution)
        await task
        assert (await bench.after(execution.id)).state is S.CANCELLED

    async def test_the_time_limit_counts_running_time_only(self, bench: Bench) -> None:
        _, execution, task = await self._stands_paused(bench, start_to_close=3600.0)
        paused = await bench.after(execution.id)
        assert paused.deadline is None
        resumed = await bench.manager.apply(execution.id, Resume())
        assert resumed.deadline is not None
        await bench.tell_of(execution)
        await task

    @pytest.mark.parametrize("written", [True, False], ids=["from the pause", "while it is being written"])
    async def test_what_a_handler_ends_with_that_left_by_itself_counts_after_the_resume(
        self, bench: Bench, sql: AnyConnection, *, written: bool
    ) -> None:
        execution, task, gate, leave = await self._may_leave(bench)
        if written:
            gate.let_go.set()
            await self._is_paused(bench, execution)
            leave()
        else:
            async with sql.transaction():
                await sql.execute("SELECT FROM executions WHERE id = $1 FOR UPDATE", execution.id)
                gate.let_go.set()
                await eventually(lambda: waiting_sessions(sql), within=5, what="the pause is being written")
                leave()
        await self._is_paused(bench, execution)
        await bench.manager.apply(execution.id, Resume())
        assert not task.done()
        await bench.tell_of(execution)
        await task
        assert (await bench.after(execution.id)).result == {"left": True}

    async def test_nor_does_a_drain_record_it_or_keep_the_loop_busy(self, bench: Bench) -> None:
        execution, task, gate, leave = await self._may_leave(bench)
        gate.let_go.set()
        await self._is_paused(bench, execution)
        leave()
        run = bench.run_of(execution)
        await eventually(lambda: not run.invoking, within=5, what="the handler has ended")
        run.drain()
        await asyncio.sleep(0)
        run.is_left = True
        async with asyncio.timeout(5):
            await task
        assert (await bench.after(execution.id)).state is S.PAUSED

    async def _may_leave(self, bench: Bench) -> tuple[Execution, asyncio.Task[None], Counted, Callable[[], object]]:
        """One whose handler goes to its pause point when it is let go, and what makes it leave that and return."""
        gate, waiting = Counted.new(), list[asyncio.Task[None]]()

        async def impatient(context: TaskContext, parameters: JsonObject) -> JsonObject:
            await gate.stand()
            waiting.append(asyncio.ensure_future(context.pause_point()))
            await asyncio.wait(waiting)
            return {"left": True}

        bench.registry.register(KIND, impatient)
        execution = await bench.claim()
        task = asyncio.create_task(bench.runner.execute_task(execution))
        await gate.has_started()
        await bench.manager.apply(execution.id, Pause())
        await bench.tell_of(execution)

        def leave() -> None:
            waiting[0].cancel()

        return execution, task, gate, leave

    async def _asked_to_pause(
        self, bench: Bench, **changes: Any
    ) -> tuple[Gate, Execution, asyncio.Task[None], Execution]:
        gate = Gate.new()
        bench.registry.register(KIND, gate.handle)
        execution = await bench.claim(**changes)
        task = asyncio.create_task(bench.runner.execute_task(execution))
        await gate.has_started()
        asked = await bench.manager.apply(execution.id, Pause())
        await bench.tell_of(execution)
        return gate, execution, task, asked

    async def _stands_paused(self, bench: Bench, **changes: Any) -> tuple[Gate, Execution, asyncio.Task[None]]:
        gate, execution, task, _ = await self._asked_to_pause(bench, **changes)
        gate.let_go.set()
        await self._is_paused(bench, execution)
        return gate, execution, task

    async def _is_paused(self, bench: Bench, execution: Execution) -> None:
        run = bench.run_of(execution)
        await eventually(lambda: run.execution.state is S.PAUSED, within=5, what="the pause is recorded")
