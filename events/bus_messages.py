"""Commands of a `CommandBus` over Kafka, and what is answered, as messages of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from events.asyncapi import Channel, Message, Operation
from events.bus_records import ANSWERED, CAUSATION, REFUSED
from events.deadlines import EXPIRY
from events.envelope import CONTENT_TYPE, SPEC_VERSION
from events.event_messages import TIME, URI
from events.kafka_commands import CommandTopics
from events.request_reply import CORRELATION

Header = dict[str, Any]
_TEXT: Header = {"type": "string", "minLength": 1}


class Refusal(BaseModel):
    """An error as the answer."""

    problem: str


@dataclass(frozen=True, kw_only=True)
class BusCall:
    """One type of command, its data, and that of its answer."""

    command: str
    """Its type."""
    name: str
    """In the document, of the command; of its replies with a word behind it."""
    request: type[BaseModel]
    answer: type[BaseModel]


def asking(call: BusCall, topics: CommandTopics, *, name: str, summary: str) -> Operation:
    """The service sends such commands, and whoever reads the topic answers."""
    commands = Channel(
        name=f"{name}Requests",
        topic=topics.commands,
        description="Requests, each of use until its `ce_expirytime`. One may come twice; the first reply counts.",
        messages=[_request(call)],
    )
    replies = Channel(
        name=f"{name}Replies",
        topic=topics.replies,
        description="Replies, found by their `ce_correlationid`. Who asks reads all, and drops those of others.",
        messages=[_reply(call, ANSWERED, call.answer), _reply(call, REFUSED, Refusal)],
    )
    return Operation(name=name, action="send", channel=commands, reply=replies, summary=summary)


def _request(call: BusCall) -> Message:
    headers = _attributes(call.command) | {
        CORRELATION: _TEXT | {"description": "A name for this request: send it back."},
        EXPIRY: TIME | {"description": "When nobody waits any more."},
    }
    return Message(
        name=call.name,
        summary=(call.request.__doc__ or "").strip(),
        headers=headers,
        required=list(headers),
        payload=call.request,
    )


def _reply(call: BusCall, suffix: str, model: type[BaseModel]) -> Message:
    headers = _attributes(call.command + suffix) | {
        CORRELATION: _TEXT | {"description": "As the request had it."},
        CAUSATION: _TEXT | {"description": "The request's `ce_id`."},
    }
    return Message(
        name=call.name + suffix.removeprefix(".").capitalize(),
        summary=(model.__doc__ or "").strip(),
        headers=headers,
        required=[name for name in headers if name != CAUSATION],
        payload=model,
        key=_TEXT | {"description": "The request's `ce_correlationid`."},
    )


def _attributes(message_type: str) -> dict[str, Header]:
    return {
        "ce_id": _TEXT,
        "ce_source": URI | {"description": "Who says so."},
        "ce_type": {"type": "string", "const": message_type},
        "ce_specversion": {"type": "string", "const": SPEC_VERSION},
        "ce_time": TIME,
        "content-type": {"type": "string", "const": CONTENT_TYPE},
    }
