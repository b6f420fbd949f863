"""Where blocking handlers run: in a thread of their own, or in a process of their own that can be killed.

A thread per run, not a pool: a handler that ignores its cancellation is abandoned, and must not take a pool's thread
with it. A process per run for the same reason, and because only a process can be ended against its will.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from execution.child import ChildCall, run_child
from execution.domain.outcome import StopRequested
from execution.errors import InvalidRequestError, TooManyFactsError
from execution.handlers import Handler
from execution.orphan_killer import MARK
from execution.orphans import orphan_watch
from execution.run import Run, SaidChecks, ThreadContext

T = TypeVar("T")

KILL_AFTER_SECONDS = 2.0
"""Time a child process has between the request to stop (SIGTERM) and its end (SIGKILL)."""


class ChildDiedError(RuntimeError):
    """A handler's process ended without a result."""

    def __init__(self, exit_code: int | None) -> None:
        how = f"signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"exit code {exit_code}"
        super().__init__(f"the handler's process ended without a result ({how})")


class ChildError(Exception):
    """An exception that was raised in a handler's process, or one in its thread that a future cannot carry."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


async def call_in_thread(handler: Handler, run: Run, parameters: Any, checks: SaidChecks) -> Any:
    """The handler's value, from a thread of its own. Ends when the thread ends: a thread cannot be stopped."""
    context = ThreadContext(run, asyncio.get_running_loop(), checks)
    return await in_own_thread(lambda: handler.function(context, parameters), f"execution {context.execution_id}")


def in_own_thread(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """What the work gives, in a thread that nobody waits for when the process ends. Cancelled, it goes on unheard."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def run() -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = work()
        except BaseException as raised:  # noqa: BLE001 - whatever the work raises is its outcome, not the thread's
            error = _carried(raised)
        with suppress(RuntimeError):  # the loop is closed: the worker has gone, and nobody waits
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done


async def call_in_process(handler: Handler, run: Run, parameters: Any) -> Any:
    """The handler's value, from a process of its own, which a request to stop ends: asked first, then killed."""
    loop = asyncio.get_running_loop()
    ours, theirs = multiprocessing.Pipe()
    # `spawn`: forking a process that runs an event loop and threads copies their locks in whatever state they are.
    process = multiprocessing.get_context("spawn").Process(target=run_child, args=(theirs,), daemon=True)
    with orphan_watch().watched() as mark:
        await asyncio.to_thread(process.start)
        theirs.close()
        assert process.pid is not None  # it was started
        orphan_watch().leads(mark, process.pid)
        run.stop_handler = lambda: _ask_to_stop(loop, process)
        if run.stop_requested:
            run.stop_handler()
        try:
            await asyncio.to_thread(_send, ours, _call_of(handler, run, parameters, mark))
            return await _Conversation(loop, ours, run, process).outcome()
        finally:
            _signal_group(process, signal.SIGKILL)
            await asyncio.to_thread(process.join, KILL_AFTER_SECONDS)
            ours.close()


def _call_of(handler: Handler, run: Run, parameters: Any, mark: str) -> ChildCall:
    execution = run.execution
    return ChildCall(
        module=handler.function.__module__,
        qualname=handler.function.__qualname__,
        parameters=parameters,
        execution_id=execution.id,
        kind=execution.kind,
        tenant_id=execution.tenant_id,
        agent_id=execution.agent_id,
        task_id=execution.task_id,
        attempt=execution.attempt,
        deadline=execution.deadline,
        trace_context=execution.trace_context,
        environment={MARK: mark},
    )


def _send(pipe: Connection, call: ChildCall) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # the child has died, and the conversation says how
        pipe.send(call)


def _carried(raised: BaseException) -> Exception:
    """What is awaited in place of an exception: SystemExit would end the worker, StopIteration fits into no future."""
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration):
        return raised
    return ChildError(type(raised).__name__, str(raised))


class _Conversation:
    """Takes the child's messages from the pipe: progress reports, and at last its value or exception."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pipe: Connection, run: Run, process: multiprocessing.process.BaseProcess
    ) -> None:
        self._loop = loop
        self._pipe = pipe
        self._run = run
        self._process = process
        self._done: asyncio.Future[Any] = loop.create_future()

    async def outcome(self) -> Any:
        self._loop.add_reader(self._pipe.fileno(), self._receive)
        try:
            return await self._done
        finally:
            self._loop.remove_reader(self._pipe.fileno())

    def _receive(self) -> None:
        if self._done.done():
            return
        try:
            message, *content = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(KILL_AFTER_SECONDS)
            stopped = StopRequested("the handler's process was ended") if self._run.stop_requested else None
            self._done.set_exception(stopped or ChildDiedError(self._process.exitcode))
            return
        except Exception as error:  # noqa: BLE001 - reading it back runs code of the handler's module
            self._done.set_exception(ChildError(type(error).__name__, f"the handler's value cannot be read: {error}"))
            return
        if message == "progress":
            self._take(self._run.reporter.report, *content)
        elif message == "fact":
            self._take(self._run.reporter.record, *content)
        elif message == "value":
            self._done.set_result(content[0])
        elif message == "stopped":
            self._done.set_exception(StopRequested("the handler obeyed"))
        else:
            self._done.set_exception(ChildError(*content))

    def _take(self, take: Callable[..., None], *said: Any) -> None:
        try:
            take(*said)
        except (InvalidRequestError, TooManyFactsError) as error:  # the child has gone on; it is still its failure
            self._done.set_exception(error)


def _ask_to_stop(loop: asyncio.AbstractEventLoop, process: multiprocessing.process.BaseProcess) -> None:
    _signal_group(process, signal.SIGTERM)
    loop.call_later(KILL_AFTER_SECONDS, _signal_group, process, signal.SIGKILL)


def _signal_group(process: multiprocessing.process.BaseProcess, number: signal.Signals) -> None:
    """Signal the child and whatever it has started (it leads a process group of its own)."""
    if process.pid is None or process.exitcode is not None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)
