"""`execution relay`: a process that publishes the log to Kafka until it is told to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from execution.cli.output import answer, console
from execution.cli.stopping import StopSignals, until_stopped
from execution.cli.working import process_settings
from execution.durable_relay import DurableRelay
from execution.process import stand_back, waited_for_processor
from execution.settings import Settings
from execution.wiring import kafka_event_bus, open_database, open_kafka_relay


async def relay(overrides: Mapping[str, Any], *, as_json: bool) -> int:
    """Publish until told to stop; 0 once what was there has been published."""
    settings = process_settings(overrides)
    kafka_event_bus(settings)  # refuses before anything is opened
    stand_back(settings.relay_niceness)
    return await until_stopped(lambda signals: _relay(settings, signals, as_json=as_json))


async def _relay(settings: Settings, signals: StopSignals, *, as_json: bool) -> None:
    waited = waited_for_processor if settings.relay_niceness > 0 else None
    async with open_database(settings) as database, open_kafka_relay(settings, database, waited=waited) as one:
        running = asyncio.current_task()
        assert running is not None
        signals.ask(one.stop, running.cancel)
        announcing = asyncio.create_task(_announce(one, settings, as_json=as_json), name="announcement")
        try:
            await one.run()
        finally:
            announcing.cancel()
    if not as_json:
        console().print(f"the relay has stopped; it has published {one.state.published:,} events")


async def _announce(one: DurableRelay, settings: Settings, *, as_json: bool) -> None:
    """One line on standard output as soon as it relays, or stands by: what a supervisor may wait for."""
    await one.ready.wait()
    what = "publishes" if one.state.is_active else "stands by"
    topic = settings.kafka_events_topic
    document = {"event": "ready", "pid": os.getpid(), "topic": topic, "active": one.state.is_active}
    answer(document, f"the relay {what}: topic {topic}, pid {os.getpid()}", as_json=as_json)
