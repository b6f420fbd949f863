"""`execution commands`: a process that carries out commands over Kafka until it is told to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from execution.cli.output import answer, console
from execution.cli.stopping import StopSignals, until_stopped
from execution.cli.working import process_settings
from execution.command_consumer import CommandConsumer, open_command_consumer
from execution.keys import KeyRing
from execution.settings import Settings
from execution.wiring import open_service


async def command(overrides: Mapping[str, Any], *, as_json: bool) -> int:
    """Carry out commands until told to stop; 0 once those under way have been answered."""
    settings = process_settings(overrides)
    return await until_stopped(lambda signals: _command(settings, signals, as_json=as_json))


async def _command(settings: Settings, signals: StopSignals, *, as_json: bool) -> None:
    async with (
        open_service(settings, relay=False) as service,
        KeyRing(service.repository.db, settings) as keys,
        open_command_consumer(service, keys) as consumer,
    ):
        running = asyncio.current_task()
        assert running is not None
        signals.ask(consumer.stop, running.cancel)
        announcing = asyncio.create_task(_announce(consumer, settings, as_json=as_json), name="announcement")
        try:
            await consumer.run()
        finally:
            announcing.cancel()
    if not as_json:
        console().print(f"the consumer of commands has stopped; it has worked off {consumer.state.handled:,} records")


async def _announce(consumer: CommandConsumer, settings: Settings, *, as_json: bool) -> None:
    """One line on standard output as soon as it has its share of the partitions: what a supervisor may wait for."""
    await consumer.ready.wait()
    topic, partitions = settings.kafka_commands_topic, consumer.state.assigned
    document = {"event": "ready", "pid": os.getpid(), "topic": topic, "partitions": partitions}
    answer(
        document, f"carrying out commands: {partitions} partitions of topic {topic}, pid {os.getpid()}", as_json=as_json
    )
