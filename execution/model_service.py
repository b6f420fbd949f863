"""The model service: who answers `agent.task`'s calls, in this process or over Kafka, as configured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from events.commands import CommandBus, InProcessCommandBus
from events.kafka_commands import CommandTopics, KafkaCommandBus, KafkaResponder
from events.kafka_topics import Topic
from execution.builtin.summarizer import answer_model_request
from execution.kafka_access import kafka_connection
from execution.settings import Settings
from execution.task_runner import MODEL_COMMAND

GROUP = "model-service"
"""The consumer group of those who answer."""
PARTITIONS = 12
RETENTION_SECONDS = 3_600.0
"""For as long as somebody may want to look; a call waits for seconds."""


@asynccontextmanager
async def open_command_bus(settings: Settings) -> AsyncIterator[CommandBus]:
    """The bus that model calls take: Kafka's if brokers are configured, and otherwise one inside this process."""
    if not settings.model_calls_over_kafka:
        yield embedded_command_bus()
        return
    bus = KafkaCommandBus(kafka_connection(settings), model_topics(settings), source=settings.kafka_events_source)
    try:
        yield bus
    finally:
        await bus.stop()


def embedded_command_bus() -> InProcessCommandBus:
    """A command bus with the embedded model behind it."""
    bus = InProcessCommandBus()
    bus.respond(MODEL_COMMAND, answer_model_request)
    return bus


def model_responder(settings: Settings) -> KafkaResponder:
    """The embedded model, answering over Kafka.

    Raises:
        SettingsError: no brokers are configured.
    """
    return KafkaResponder(
        kafka_connection(settings),
        model_topics(settings),
        embedded_command_bus(),
        group=GROUP,
        source=f"{settings.kafka_events_source}/model-service",
    )


def model_topics(settings: Settings) -> CommandTopics:
    """Where model calls and their replies go."""

    def topic(name: str) -> Topic:
        return Topic(
            name=name,
            partitions=PARTITIONS,
            retention_seconds=RETENTION_SECONDS,
            replication=settings.kafka_replication_factor,
            largest_record=settings.largest_record_bytes,
        )

    return CommandTopics(
        commands=topic(settings.kafka_model_commands_topic), replies=topic(settings.kafka_model_replies_topic)
    )
