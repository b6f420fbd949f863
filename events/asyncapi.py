"""The AsyncAPI document of what goes over Kafka, made from the models that write and read it.

A message is told by its `ce_type`, a channel is a topic. Where the brokers are is no part of it: that is configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from events.kafka_topics import Topic

VERSION = "3.1.0"
CONTENT_TYPE = "application/json"
_BINDING_VERSION = "0.5.0"
_SCHEMAS = "#/components/schemas/"
_ANY_TEXT: Mapping[str, Any] = {"type": "string"}

JsonObject = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One kind of record."""

    name: str
    """In the document."""
    summary: str
    headers: Mapping[str, JsonObject]
    """Schema of each header's text, by its name."""
    required: Sequence[str] = ()
    """Headers that are always there."""
    payload: type[BaseModel] | None
    """None: bytes of any kind."""
    key: Mapping[str, Any] = field(default_factory=lambda: _ANY_TEXT)
    """Schema of the record's key."""
    is_open: bool = True
    """May later releases add members to the payload? Whoever reads it has to bear that then."""
    may_be_empty: bool = False
    """May the payload be left out? AsyncAPI has no word for it, so `x-may-be-empty` says it."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A topic and what is on it."""

    name: str
    """In the document."""
    topic: Topic
    description: str
    messages: Sequence[Message]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What the service does on a channel."""

    name: str
    action: Literal["send", "receive"]
    channel: Channel
    summary: str
    reply: Channel | None = None
    """Where the answer to each message goes."""
    group: str | None = None
    """Of the consumers."""


def asyncapi_document(*, title: str, version: str, description: str, operations: Sequence[Operation]) -> JsonObject:
    """The document, as AsyncAPI 3.1 has it."""
    channels = _channels(operations)
    messages = {message.name: message for channel in channels for message in channel.messages}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": title,
            "version": version,
            "description": description,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {channel.name: _channel(channel) for channel in channels},
        "operations": {operation.name: _operation(operation) for operation in operations},
        "components": {
            "messages": {name: _message(message) for name, message in messages.items()},
            "schemas": _schemas(messages.values()),
        },
    }


def _channels(operations: Iterable[Operation]) -> list[Channel]:
    """Each once, in the order of its first use."""
    channels: dict[str, Channel] = {}
    for operation in operations:
        for channel in (operation.channel, operation.reply):
            if channel is not None:
                channels.setdefault(channel.name, channel)
    return list(channels.values())


def _channel(channel: Channel) -> JsonObject:
    topic = channel.topic
    binding: JsonObject = {
        "topic": topic.name,
        "partitions": topic.partitions,
        "topicConfiguration": {
            "cleanup.policy": ["delete"],
            "retention.ms": int(topic.retention_seconds * 1000),
            "max.message.bytes": topic.largest_record,
        },
        "bindingVersion": _BINDING_VERSION,
    }
    if topic.replication is not None:
        binding["replicas"] = topic.replication
    return {
        "address": topic.name,
        "description": channel.description,
        "messages": {one.name: {"$ref": f"#/components/messages/{one.name}"} for one in channel.messages},
        "bindings": {"kafka": binding},
    }


def _operation(operation: Operation) -> JsonObject:
    document: JsonObject = {
        "action": operation.action,
        "channel": {"$ref": f"#/channels/{operation.channel.name}"},
        "summary": operation.summary,
        "messages": _messages_of(operation.channel),
    }
    if operation.reply is not None:
        channel = operation.reply
        document["reply"] = {"channel": {"$ref": f"#/channels/{channel.name}"}, "messages": _messages_of(channel)}
    if operation.group is not None:
        group = {"type": "string", "const": operation.group}
        document["bindings"] = {"kafka": {"groupId": group, "bindingVersion": _BINDING_VERSION}}
    return document


def _messages_of(channel: Channel) -> list[JsonObject]:
    return [{"$ref": f"#/channels/{channel.name}/messages/{one.name}"} for one in channel.messages]


def _message(message: Message) -> JsonObject:
    document: JsonObject = {
        "name": message.name,
        "summary": message.summary,
        "headers": {
            "type": "object",
            "properties": dict(message.headers),
            "required": list(message.required),
        },
        "bindings": {"kafka": {"key": dict(message.key), "bindingVersion": _BINDING_VERSION}},
    }
    if message.payload is not None:
        document["contentType"] = CONTENT_TYPE
        document["payload"] = {"$ref": _SCHEMAS + message.payload.__name__}
    if message.may_be_empty:
        document["x-may-be-empty"] = True
    return document


def _schemas(messages: Iterable[Message]) -> JsonObject:
    """Of all payloads and what they consist of. What is closed where it is read may not be open elsewhere."""
    by_openness: dict[bool, dict[type[BaseModel], None]] = {True: {}, False: {}}
    for message in messages:
        if message.payload is not None:
            by_openness[message.is_open][message.payload] = None
    opened = {name: _opened(schema) for name, schema in _definitions(by_openness[True]).items()}
    return dict(sorted((opened | _definitions(by_openness[False])).items()))


def _definitions(models: Iterable[type[BaseModel]]) -> JsonObject:
    _, made = models_json_schema([(model, "validation") for model in models], ref_template=_SCHEMAS + "{model}")
    definitions: JsonObject = made.get("$defs", {})
    return definitions


def _opened(schema: JsonObject) -> JsonObject:
    return {name: one for name, one in schema.items() if (name, one) != ("additionalProperties", False)}
