"""`execution worker`: a process that runs executions until it is told to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from execution.cli.output import answer, console
from execution.cli.stopping import HURRY_SECONDS, StopSignals, until_stopped
from execution.domain.execution import JsonObject
from execution.log import configure_logging
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service
from execution.worker import Worker

log = structlog.get_logger(__name__)


async def work(overrides: Mapping[str, Any], *, as_json: bool) -> int:
    """Run a worker until it is told to stop; 0 once it has drained."""
    settings = process_settings(overrides)
    return await until_stopped(lambda signals: _work(settings, signals, as_json=as_json))


def process_settings(overrides: Mapping[str, Any]) -> Settings:
    """The settings of a process that runs until it is told to stop, whose log is set up with them."""
    settings = Settings.load(**overrides)
    configure_logging(settings.log_level, settings.log_format)
    for variable in Settings.unknown_environment():
        log.warning("settings.unknown_variable", name=variable.name, nearest=variable.nearest)
    return settings


def stop_runs(service: ExecutionService) -> None:
    """Ask every handler to stop at once; how each one ends is recorded as ever."""
    for run in list(service.task_runner.runs.values()):
        run.drain()


def worker_facts(worker: Worker, service: ExecutionService) -> JsonObject:
    """What a supervisor may want to know of a worker that is ready."""
    return {
        "worker_id": str(worker.id),
        "kinds": list(service.settings.worker_kinds or service.registry.kinds),
        "concurrency": service.settings.worker_concurrency,
    }


@asynccontextmanager
async def stopping_its_runs(service: ExecutionService) -> AsyncIterator[None]:
    """At the end of the block no handler runs any more, whatever ended it."""
    try:
        yield
    finally:
        await service.background_tasks.stop(HURRY_SECONDS)


async def _work(settings: Settings, signals: StopSignals, *, as_json: bool) -> None:
    async with open_service(settings) as service:
        worker = service.create_worker()
        signals.ask(worker.stop, lambda: stop_runs(service))
        announcing = asyncio.create_task(_announce(worker, service, as_json=as_json), name="announcement")
        async with stopping_its_runs(service):
            try:
                await worker.run()
            finally:
                announcing.cancel()
    if not as_json:
        console().print(f"worker {worker.id} has {'stopped' if signals.hurried else 'drained'}")


async def _announce(worker: Worker, service: ExecutionService, *, as_json: bool) -> None:
    """One line on standard output as soon as the worker claims: what a supervisor may wait for."""
    await worker.ready.wait()
    facts = worker_facts(worker, service)
    sentence = (
        f"worker {worker.id} is ready: {', '.join(facts['kinds'])}; {facts['concurrency']} at once, pid {os.getpid()}"
    )
    answer({"event": "ready", "pid": os.getpid()} | facts, sentence, as_json=as_json)
