"""The events as messages of the contract: what `EventCodec` writes, said as schemas."""

from __future__ import annotations

from typing import Any

from events.asyncapi import Channel, Message, Operation
from events.codec import SEQUENCE_DIGITS
from events.envelope import CONTENT_TYPE, DATA_VERSIONS, SPEC_VERSION
from events.facts import FACTS, Fact
from events.kafka_topics import Topic

UUID_TEXT = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
TRACE: dict[str, Any] = {
    "type": "string",
    "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
    "description": "W3C trace context of whoever asked for it.",
}
URI: dict[str, Any] = {"type": "string", "format": "uri-reference"}
EXECUTION_ID: dict[str, Any] = {"type": "string", "pattern": f"^{UUID_TEXT}$", "description": "The execution's id."}
_REQUIRED = (
    *("ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time", "ce_subject", "ce_sequence", "ce_tenant"),
    *("ce_dataversion", "content-type"),
)


def publishing(topic: Topic) -> Operation:
    """The service publishes every event of its log to this topic."""
    channel = Channel(
        name="executionEvents",
        topic=topic,
        description="Every event of every execution, in order per execution, at least once. Ignore the types, headers "
        "and members that you do not know; drop what is not above the last `ce_sequence` of its `ce_subject`.",
        messages=[_message(fact) for fact in FACTS.values()],
    )
    return Operation(
        name="publishEvents", action="send", channel=channel, summary="What has happened, as soon as it is visible."
    )


def _message(fact: type[Fact]) -> Message:
    return Message(
        name=fact.__name__.removesuffix("Fact"),
        summary=(fact.__doc__ or "").strip(),
        headers=_headers(fact.event_type),
        required=_REQUIRED,
        payload=fact,
        key=EXECUTION_ID,
    )


def _headers(event_type: str) -> dict[str, dict[str, Any]]:
    return {
        "ce_id": {
            "type": "string",
            "pattern": f"^{UUID_TEXT}:[1-9][0-9]*$",
            "description": "`{ce_subject}:{version}`: the same for every sending of an event.",
        },
        "ce_source": URI | {"description": "Who says so."},
        "ce_type": {"type": "string", "const": event_type},
        "ce_specversion": {"type": "string", "const": SPEC_VERSION},
        "ce_time": TIME | {"description": "When it happened; the record's own time is when it was sent."},
        "ce_subject": EXECUTION_ID,
        "ce_sequence": {
            "type": "string",
            "pattern": f"^[0-9]{{{SEQUENCE_DIGITS}}}$",
            "description": "The version that the event made of the execution.",
        },
        "ce_tenant": {"type": "string", "minLength": 1, "description": "Whose execution it is."},
        "ce_dataversion": {"type": "string", "const": str(DATA_VERSIONS.get(event_type, 1))},
        "traceparent": TRACE,
        "content-type": {"type": "string", "const": CONTENT_TYPE},
    }
