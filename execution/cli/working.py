"""`execution worker`: a process that runs executions until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from execution.cli.exit_codes import ExitCode
from execution.cli.output import answer, console
from execution.log import configure_logging
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service
from execution.worker import Worker

log = structlog.get_logger(__name__)

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_KILLED = 128
"""What shells add to the number of the signal that ended a program."""
HURRY_SECONDS = 1.0
"""What handlers get to stop, and the worker to record it, after the second signal."""


class StopSignals:
    """What signals ask of this process: the first one to stop, in order if it can; the second one to hurry."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        self._stop = cancel
        self._hurry = cancel
        self._received: list[int] = []

    def ask(self, stop: Callable[[], object], hurry: Callable[[], object]) -> None:
        """From now on there is something to stop in order."""
        self._stop, self._hurry = stop, hurry

    def receive(self, number: int) -> None:
        """React to a signal."""
        self._received.append(number)
        if len(self._received) == 1:
            self._stop()
        elif len(self._received) == 2:
            self._hurry()
            asyncio.get_running_loop().call_later(HURRY_SECONDS, self._cancel)
        else:
            os._exit(self.exit_code)

    @property
    def hurried(self) -> bool:
        """Was there more than the one signal that asks for an orderly stop?"""
        return len(self._received) > 1

    @property
    def exit_code(self) -> int:
        """Of a process that these signals have ended out of order."""
        return _KILLED + self._received[-1] if self._received else ExitCode.UNEXPECTED


async def work(overrides: Mapping[str, Any], *, as_json: bool) -> int:
    """Run a worker until it is told to stop; 0 once it has drained."""
    settings = Settings.load(**overrides)
    configure_logging(settings.log_level, settings.log_format)
    for variable in Settings.unknown_environment():
        log.warning("settings.unknown_variable", name=variable.name, nearest=variable.nearest)
    with _stop_signals() as signals:
        try:
            await _serve(settings, signals, as_json=as_json)
        except asyncio.CancelledError:
            return signals.exit_code
    return signals.exit_code if signals.hurried else ExitCode.OK


async def _serve(settings: Settings, signals: StopSignals, *, as_json: bool) -> None:
    async with open_service(settings) as service:
        worker = service.create_worker()
        kinds = list(settings.worker_kinds or service.registry.kinds)
        signals.ask(worker.stop, lambda: _stop_runs(service))
        announcing = asyncio.create_task(_announce(worker, kinds, settings, as_json=as_json), name="announcement")
        try:
            await worker.run()
        finally:
            announcing.cancel()
            await service.background_tasks.stop(HURRY_SECONDS)
    if not as_json:
        console().print(f"worker {worker.id} has {'stopped' if signals.hurried else 'drained'}")


def _stop_runs(service: ExecutionService) -> None:
    """Ask every handler to stop at once; how each one ends is recorded as ever."""
    for run in list(service.task_runner.runs.values()):
        run.drain()


async def _announce(worker: Worker, kinds: list[str], settings: Settings, *, as_json: bool) -> None:
    """One line on standard output as soon as the worker claims: what a supervisor may wait for."""
    await worker.ready.wait()
    document = {
        "event": "ready",
        "worker_id": str(worker.id),
        "pid": os.getpid(),
        "kinds": kinds,
        "concurrency": settings.worker_concurrency,
    }
    sentence = (
        f"worker {worker.id} is ready: {', '.join(kinds)}; {settings.worker_concurrency} at once, pid {os.getpid()}"
    )
    answer(document, sentence, as_json=as_json)


@contextmanager
def _stop_signals() -> Iterator[StopSignals]:
    """The stop signals of this process, as long as the block; call it in the task that a second one shall cancel."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    signals = StopSignals(task.cancel)
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, signals.receive, number)
    try:
        yield signals
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
