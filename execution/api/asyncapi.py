"""The AsyncAPI document of this service: every topic it uses, as it is configured."""

from __future__ import annotations

from importlib.metadata import version

from pydantic import BaseModel, Field

from events.asyncapi import asyncapi_document
from events.command_messages import CommandTopics, commanding
from events.event_messages import publishing
from execution.api.models import ExecutionDocument, Problem
from execution.command_consumer import answer_topics, command_topics
from execution.domain.execution import JsonObject
from execution.incoming_command import COMMAND_MODELS
from execution.kafka_access import events_topic
from execution.settings import Settings

_DESCRIPTION = (
    "Executions over Apache Kafka: records are CloudEvents 1.0 in binary mode, attributes in headers and data as JSON. "
    "What goes over HTTP is in /openapi.json."
)


class CommandOutcome(BaseModel):
    """What came of a command: the execution after it, or why it was refused; neither where that is too large."""

    command_id: str
    status: int = Field(ge=200, le=599, description="As over HTTP.")
    replayed: bool = Field(description="Is it the answer to an earlier sending, with nothing done now?")
    execution: ExecutionDocument | None = None
    problem: Problem | None = None


def kafka_contract(settings: Settings) -> JsonObject:
    """The document. Topics of tenants' own are not in it: they are the tenants' business."""
    commands, *_ = command_topics(settings)
    replies, dead_letters = answer_topics(settings)
    topics = CommandTopics(commands=commands, replies=replies, dead_letters=dead_letters)
    operations = [
        publishing(events_topic(settings)),
        *commanding(topics, models=COMMAND_MODELS, reply=CommandOutcome, group=settings.kafka_commands_group),
    ]
    return asyncapi_document(
        title="Execution service",
        version=version("execution-service"),
        description=_DESCRIPTION,
        operations=operations,
    )
