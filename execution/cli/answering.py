"""`execution model-service`: a process that answers model calls over Kafka until it is told to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from events.kafka_commands import KafkaResponder
from execution.cli.output import answer, console
from execution.cli.stopping import StopSignals, until_stopped
from execution.cli.working import process_settings
from execution.model_service import model_responder
from execution.settings import Settings


async def answer_model_calls(overrides: Mapping[str, Any], *, as_json: bool) -> int:
    """Answer until told to stop; 0 once what was under way has been answered."""
    settings = process_settings(overrides)
    responder = model_responder(settings)
    return await until_stopped(lambda signals: _answer(responder, settings, signals, as_json=as_json))


async def _answer(responder: KafkaResponder, settings: Settings, signals: StopSignals, *, as_json: bool) -> None:
    running = asyncio.current_task()
    assert running is not None
    signals.ask(responder.stop, running.cancel)
    announcing = asyncio.create_task(_announce(responder, settings, as_json=as_json), name="announcement")
    try:
        await responder.run()
    finally:
        announcing.cancel()
    if not as_json:
        console().print(f"the model service has stopped; it has answered {responder.tally.answered:,} calls")


async def _announce(responder: KafkaResponder, settings: Settings, *, as_json: bool) -> None:
    """One line on standard output as soon as it answers, or cannot yet: what a supervisor may wait for."""
    await responder.ready.wait()
    problem = responder.consumer.state.problem
    topic = settings.kafka_model_commands_topic
    how = "answers calls" if problem is None else f"cannot answer yet ({problem})"
    document = {"event": "ready", "pid": os.getpid(), "topic": topic, "problem": problem}
    answer(document, f"the model service {how}: topic {topic}, pid {os.getpid()}", as_json=as_json)
