"""`execution serve`: the HTTP door, a worker and the relay in one process, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from execution.api.app import create_app
from execution.api.door import Door
from execution.api.server import HttpServer, bound
from execution.cli.output import answer, console, hint
from execution.cli.stopping import StopSignals, until_stopped
from execution.cli.working import process_settings, stop_runs, stopping_its_runs, worker_facts
from execution.command_consumer import NO_TRUST, open_command_consumer
from execution.domain.execution import JsonObject
from execution.keys import KeyRing
from execution.lifecycle import kept_running
from execution.relay_survey import RelaySurvey
from execution.repository.relay_cursors import RelayCursorStore
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_kafka_relay, open_service
from execution.worker import Worker

_NO_KEY = (
    "there is no API key, so only this machine is served, and whoever is on it may do everything. Once there is one, "
    "everybody needs one: execution keys create NAME --scope write"
)


class _Part(Protocol):
    """What runs until it is told to stop, or something is wrong."""

    @property
    def ready(self) -> asyncio.Event: ...

    async def run(self) -> None: ...

    def stop(self) -> None: ...


async def serve(overrides: Mapping[str, Any], *, worker: bool, relay: bool, commands: bool, as_json: bool) -> int:
    """Serve HTTP until told to stop; 0 once requests have ended and the worker has drained."""
    settings = process_settings(overrides)
    return await until_stopped(
        lambda signals: _serve(settings, signals, worker=worker, relay=relay, commands=commands, as_json=as_json)
    )


async def _serve(
    settings: Settings, signals: StopSignals, *, worker: bool, relay: bool, commands: bool, as_json: bool
) -> None:
    # The address first: a second server on it should not start everything else before it finds out.
    with bound(settings.host, settings.port) as listening:
        async with (
            open_service(settings, relay=relay) as service,
            KeyRing(service.repository.db, settings) as keys,
            stopping_its_runs(service),
        ):
            if not await keys.check_exposure():
                hint(_NO_KEY, as_json=as_json)
            app = create_app(service, keys=keys)
            server = HttpServer(app, listening)
            door: Door = app.state.door
            own_worker = service.create_worker() if worker else None
            if own_worker is not None:
                door.look_after(own_worker)
            parts: list[_Part] = [server, own_worker] if own_worker else [server]
            signals.ask(lambda: _stop(parts), lambda: _hurry(server, service))
            announcing = asyncio.create_task(
                _announce(server, own_worker, service, parts, as_json=as_json), name="announcement"
            )
            try:
                async with _relaying(door, here=relay), _commanding(door, here=commands, as_json=as_json):
                    await _run_together(parts)
            finally:
                announcing.cancel()
    if not as_json:
        console().print(f"the server at {server.url} has stopped")


@asynccontextmanager
async def _relaying(door: Door, *, here: bool) -> AsyncIterator[None]:
    """Publish to Kafka, if it is configured, as long as the block; then what it has left to be published.

    Nobody waits for the relay: while the brokers are away, everything else goes on.
    """
    settings, database = door.settings, door.service.repository.db
    if settings.kafka_bootstrap_servers is None:
        yield
        return
    door.watch_cursor(RelaySurvey(RelayCursorStore(database), settings.kafka_events_topic))
    if not here:
        yield
        return
    async with open_kafka_relay(settings, database) as relay:
        door.watch_relay(relay)
        async with kept_running("kafka relay", relay.run_until_cancelled):
            yield
            await relay.finish()


@asynccontextmanager
async def _commanding(door: Door, *, here: bool, as_json: bool) -> AsyncIterator[None]:
    """Carry out commands over Kafka, if it is configured and senders can be known, as long as the block.

    Nobody waits for the consumer either.
    """
    if not here or door.settings.kafka_bootstrap_servers is None:
        yield
        return
    if not door.settings.commands_can_be_trusted:
        hint(f"no commands are read from Kafka: {NO_TRUST}", as_json=as_json)
        yield
        return
    async with open_command_consumer(door.service, door.keys) as consumer:
        door.watch_commands(consumer)
        async with kept_running("kafka commands", consumer.run_until_cancelled):
            yield
            await consumer.finish()


async def _run_together(parts: Sequence[_Part]) -> None:
    """Run the parts until all have ended. When one does, for whatever reason, the others are stopped, too."""
    running = [asyncio.create_task(part.run(), name=f"serve {type(part).__name__}") for part in parts]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        _stop(parts)
        await asyncio.wait(running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
    for task in running:
        task.result()


def _stop(parts: Sequence[_Part]) -> None:
    for part in parts:
        part.stop()


def _hurry(server: HttpServer, service: ExecutionService) -> None:
    server.hurry()
    stop_runs(service)


async def _announce(
    server: HttpServer, worker: Worker | None, service: ExecutionService, parts: Sequence[_Part], *, as_json: bool
) -> None:
    """One line on standard output as soon as all parts are ready: what a supervisor may wait for."""
    for part in parts:
        await part.ready.wait()
    document: JsonObject = {"event": "ready", "url": server.url, "pid": os.getpid()}
    with_what = "without a worker"
    if worker is not None:
        facts = worker_facts(worker, service)
        document |= facts
        with_what = f"with a worker for {', '.join(facts['kinds'])}"
    answer(document, f"serving {server.url} {with_what}, pid {os.getpid()}", as_json=as_json)
