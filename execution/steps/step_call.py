"""Calls a step's handler from an event loop: awaits an asynchronous one, gives one that may block its own thread."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from execution.isolation import in_own_thread
from execution.steps.ending import Raised
from execution.steps.model import AsyncStepHandler, ExecutionContext, JobStep, StepHandler, identity_of

AnyStepHandler = StepHandler | AsyncStepHandler


class StepTimeLimitError(Exception):
    """A step ran past its own time limit."""

    error_type = "step_timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it ran past its time limit of {seconds:g} s and was stopped; how far it came is not known")


class KnownHandler:
    """A handler of one run of a plan, looked at once: who it is, and how it is called."""

    __slots__ = ("_execute", "identity", "is_asynchronous", "returns_at_once")

    def __init__(self, handler: AnyStepHandler) -> None:
        self.identity = identity_of(handler)
        self.is_asynchronous = inspect.iscoroutinefunction(handler.execute)
        self.returns_at_once = not self.is_asynchronous and getattr(handler, "blocks", True) is False
        self._execute: Callable[[JobStep, ExecutionContext], Any] = handler.execute

    def caught(self, step: JobStep, context: ExecutionContext) -> object:
        """What a handler that returns at once returned, or what it `Raised`."""
        try:
            return self._execute(step, context)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, the step ends with it and leaves evidence
            return Raised(raised)

    async def call(self, step: JobStep, context: ExecutionContext, is_asked_to_stop: Callable[[], bool]) -> object:
        """What the handler returned, or what it `Raised`. With `caught` the only call of a handler in a durable plan.

        Raises:
            CancelledError: the step was cancelled, and nobody knows how far it came. A blocking one is waited for when
                it is asked to stop: it cannot be stopped, and its end is known then. Who insists leaves it behind.
        """
        if self.is_asynchronous:
            return await _awaited(self._execute(step, context), step)
        if self.returns_at_once:
            return self.caught(step, context)
        name = f"step {context.job_id} {step.step_index}"
        returned = await _waited_for(in_own_thread(lambda: self.caught(step, context), name), is_asked_to_stop)
        if inspect.isawaitable(returned):
            returned = await _awaited(returned, step)
        return returned


async def _awaited(work: Awaitable[Any], step: JobStep) -> object:
    task = asyncio.current_task()
    asked_before = task.cancelling() if task else 0
    limit = asyncio.timeout(step.timeout_seconds)
    try:
        async with limit:
            return await work
    except asyncio.CancelledError as error:
        if task is not None and task.cancelling() > asked_before:
            raise
        return Raised(RuntimeError(f"the handler raised {type(error).__name__}, and nobody had cancelled it"))
    except TimeoutError as error:
        if limit.expired() and step.timeout_seconds is not None:
            return Raised(StepTimeLimitError(step.timeout_seconds))
        return Raised(error)
    except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever it is, the step ends with it and leaves evidence
        return Raised(raised)


async def _waited_for(thread: asyncio.Future[object], is_asked_to_stop: Callable[[], bool]) -> object:
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        if not is_asked_to_stop():  # the process is being torn down, and does not wait
            thread.cancel()
            raise
    return await thread
