"""The progress of a job that a thread executes: each completed step counts with its weight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from execution.steps.model import ExecutionContext, JobStep, StepHandler, StepOutput, identity_of

Report = Callable[[float, JobStep], Awaitable[None]]


class WatchedHandler:
    """A handler that tells of each step it has completed; in evidence it is the handler it stands for."""

    def __init__(self, handler: StepHandler, completed: Callable[[JobStep], None]) -> None:
        identity = identity_of(handler)
        self.name, self.version, self.idempotent = identity.name, identity.version, identity.idempotent
        self._handler, self._completed = handler, completed

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        """Execute the step."""
        output = self._handler.execute(step, context)
        if isinstance(output, StepOutput) and output.success:
            self._completed(step)
        return output


class StepProgress:
    """Reports how far one job is: at most once per interval, and the last step always."""

    def __init__(self, plan: tuple[JobStep, ...], report: Report, interval: float) -> None:
        self._whole = sum(step.weight for step in plan)
        self._report, self._interval = report, interval
        self._loop = asyncio.get_running_loop()
        self._done = 0.0
        self._latest: JobStep | None = None
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()

    def watched(self, handlers: Mapping[str, StepHandler]) -> dict[str, StepHandler]:
        """The handlers for the thread that executes the job."""
        return {step_type: WatchedHandler(handler, self._completed) for step_type, handler in handlers.items()}

    @asynccontextmanager
    async def reported(self) -> AsyncIterator[None]:
        """Report inside; what is left to say at the end is said."""
        reporting = asyncio.create_task(self._run(), name="step progress")
        try:
            yield
        finally:
            self._closed.set()
            self._changed.set()
            await reporting

    def _completed(self, step: JobStep) -> None:
        """Called in the thread."""
        with suppress(RuntimeError):  # the loop has gone, and with it everybody who could read of it
            self._loop.call_soon_threadsafe(self._note, step)

    def _note(self, step: JobStep) -> None:
        self._done += step.weight
        self._latest = step
        self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            step, self._latest = self._latest, None
            if step is not None:
                await self._report(min(100.0, 100.0 * self._done / self._whole), step)
            elif self._closed.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), self._interval)
            if self._closed.is_set():
                self._changed.set()
