"""The AsyncAPI document of this service: every topic it uses, as it is configured."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from events.asyncapi import asyncapi_document
from events.bus_messages import BusCall, asking
from events.command_messages import CommandTopics, commanding
from events.event_messages import publishing
from execution.api.models import ExecutionDocument, Problem
from execution.command_consumer import answer_topics, command_topics
from execution.domain.execution import JsonObject
from execution.incoming_command import COMMAND_MODELS
from execution.kafka_access import events_topic
from execution.model_service import model_topics
from execution.settings import Settings
from execution.task_runner import MODEL_COMMAND

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


class ModelAgent(BaseModel):
    """Whom the model is to be."""

    id: str
    model: str
    instructions: str


class ModelRequest(BaseModel):
    """An execution's input for a model."""

    execution_id: UUID
    agent: ModelAgent
    input: dict[str, Any] = Field(description="The execution's parameters.")


class ModelAnswer(BaseModel):
    """What the model made of it."""

    output: dict[str, Any]
    model: str | None = Field(default=None, description="What has answered.")
    usage: dict[str, Any] = Field(default_factory=dict, description="What it took.")


MODEL_CALL = BusCall(command=MODEL_COMMAND, name="ModelRequest", request=ModelRequest, answer=ModelAnswer)


def kafka_contract(settings: Settings) -> JsonObject:
    """The document. Topics of tenants' own are not in it: they are the tenants' business."""
    commands, *_ = command_topics(settings)
    replies, dead_letters = answer_topics(settings)
    topics = CommandTopics(commands=commands, replies=replies, dead_letters=dead_letters)
    operations = [
        publishing(events_topic(settings)),
        *commanding(topics, models=COMMAND_MODELS, reply=CommandOutcome, group=settings.kafka_commands_group),
        asking(
            MODEL_CALL,
            model_topics(settings),
            name="callModel",
            summary="Executions of the kind `agent.task` ask a model.",
        ),
    ]
    return asyncapi_document(
        title="Execution service",
        version=version("execution-service"),
        description=_DESCRIPTION,
        operations=operations,
    )
