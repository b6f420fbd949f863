"""The AsyncAPI document of this service: every topic it uses, as it is configured."""

from __future__ import annotations

from importlib.metadata import version

from events.asyncapi import asyncapi_document
from events.event_messages import publishing
from execution.domain.execution import JsonObject
from execution.kafka_access import events_topic
from execution.settings import Settings

_DESCRIPTION = (
    "Executions over Apache Kafka: records are CloudEvents 1.0 in binary mode, attributes in headers and data as JSON. "
    "What goes over HTTP is in /openapi.json."
)


def kafka_contract(settings: Settings) -> JsonObject:
    """The document."""
    return asyncapi_document(
        title="Execution service",
        version=version("execution-service"),
        description=_DESCRIPTION,
        operations=[publishing(events_topic(settings))],
    )
