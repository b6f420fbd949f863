"""The synchronous form of a handler that is awaited: one operation, for the step machine and for durable plans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from execution.errors import ExecutionServiceError, OutcomeUnknownError
from execution.steps.model import ExecutionContext, JobStep, StepOutput

PATIENCE_SECONDS = 30.0
"""What an operation on the service's loop may take: longer than PostgreSQL gives any statement and its connection."""


class CalledOnLoopError(ExecutionServiceError):
    """The thread that would have to wait is the one that has to do the work."""

    code = "called_on_loop"

    def __init__(self, step_type: str) -> None:
        super().__init__(
            f"A step {step_type!r} cannot be waited for in the thread of the service's own event loop. "
            "Call the executor in another one: await asyncio.to_thread(executor.execute_job, ...)."
        )


class AwaitedHandler(Protocol):
    """An `AsyncStepHandler` that says who it is, and whose `execute` is a coroutine function."""

    @property
    def name(self) -> str:
        """Its name, for the evidence."""

    @property
    def version(self) -> str:
        """Its version, for the evidence."""

    async def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        """Execute the step."""


class BlockingHandler:
    """Waits for what another handler's `execute` does.

    Args:
        loop: where it is done, for a handler whose connections belong to that loop; None: in a loop of its own.
    """

    def __init__(self, handler: AwaitedHandler, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.name = handler.name
        self.version = handler.version
        self.idempotent = getattr(handler, "idempotent", False) is True
        self._execute: Callable[[JobStep, ExecutionContext], Coroutine[Any, Any, StepOutput]] = handler.execute
        self._loop = loop

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        """Execute the step.

        Raises:
            CalledOnLoopError: nothing was done.
            OutcomeUnknownError: it did not end in time.
        """
        if self._loop is None:
            return self._execute_apart(step, context)
        if _running_loop() is self._loop:
            raise CalledOnLoopError(step.step_type)
        future = asyncio.run_coroutine_threadsafe(self._execute(step, context), self._loop)
        try:
            return future.result(PATIENCE_SECONDS)
        except TimeoutError:
            if future.done():  # the handler's own
                raise
            future.cancel()
            raise OutcomeUnknownError(f"Step {step.step_type!r}") from None

    def _execute_apart(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        # A thread of its own: the caller's may have a loop running already.
        with ThreadPoolExecutor(1, thread_name_prefix="step") as threads:
            return threads.submit(lambda: asyncio.run(self._execute(step, context))).result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
