"""Commands, replies and dead letters as messages of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from events.asyncapi import Channel, Message, Operation
from events.command_envelope import CAUSATION, MAX_ID_LENGTH, PREFIX, REPLY_TYPE
from events.command_signature import KEY, SIGNATURE
from events.dead_letters import PREFIX as DEAD_LETTER_PREFIX
from events.deadlines import EXPIRY
from events.envelope import CONTENT_TYPE, SPEC_VERSION
from events.event_messages import EXECUTION_ID, TIME, TRACE, URI
from events.kafka_topics import Topic
from events.request_reply import CORRELATION

Header = dict[str, Any]

COMMAND_ID: Header = {
    "type": "string",
    "pattern": f"^[!-~]{{1,{MAX_ID_LENGTH}}}$",
    "description": "The sender's id of the command: sent again under the same one, it is answered and not repeated.",
}
_NUMBER: Header = {"type": "string", "pattern": "^[0-9]{1,19}$"}
_TEXT: Header = {"type": "string"}


@dataclass(frozen=True, kw_only=True)
class CommandTopics:
    """Where commands come from, and where what comes of them goes."""

    commands: Topic
    replies: Topic
    dead_letters: Topic


def commanding(
    topics: CommandTopics, *, models: Mapping[str, type[BaseModel]], reply: type[BaseModel], group: str
) -> list[Operation]:
    """The service carries out commands, answers them, and puts aside what is none.

    Args:
        models: of each command's data.
        reply: of what is answered.
        group: of the consumers.
    """
    commands = Channel(
        name="executionCommands",
        topic=topics.commands,
        description="Commands on executions, in order per execution. The data is what the same request over HTTP has "
        "as its body, and may be left out where nothing in it has to be said.",
        messages=[_command(name, model) for name, model in models.items()],
    )
    replies = Channel(
        name="executionReplies",
        topic=topics.replies,
        description="What came of each delivery of each command, as the same request over HTTP would be answered.",
        messages=[_reply(reply)],
    )
    letters = Channel(
        name="executionDeadLetters",
        topic=topics.dead_letters,
        description="Records that are no commands, as they came, with where from and why.",
        messages=[_dead_letter()],
    )
    return [
        Operation(
            name="receiveCommands",
            action="receive",
            channel=commands,
            reply=replies,
            group=group,
            summary="Each is carried out once, or refused with the reason.",
        ),
        Operation(name="putAside", action="send", channel=letters, summary="The partition goes on."),
    ]


def _command(name: str, model: type[BaseModel]) -> Message:
    is_new = name == "create"
    headers: dict[str, Header] = {
        "ce_id": COMMAND_ID,
        "ce_source": URI | {"description": "Who sends it."},
        "ce_type": {"type": "string", "const": f"{PREFIX}{name}"},
        "ce_specversion": {"type": "string", "const": SPEC_VERSION},
        "ce_time": TIME | {"description": "When it was first sent."},
        "ce_subject": EXECUTION_ID,
        "ce_tenant": _TEXT | {"description": "Only ever the sender's own; it is believed to nobody."},
        "ce_expectedversion": {
            "type": "string",
            "pattern": "^[1-9][0-9]{0,9}$",
            "description": "Apply to this version of the execution only.",
        },
        CORRELATION: _TEXT | {"description": "Comes back with the reply; without it, the command's id does."},
        EXPIRY: TIME | {"description": "Until when the sender waits."},
        KEY: _TEXT | {"description": "What the sender's key is called, if it signs."},
        SIGNATURE: {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "HMAC over the head and the data."},
        "traceparent": TRACE,
        "content-type": {"type": "string", "const": CONTENT_TYPE},
    }
    required = ["ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time", *([] if is_new else ["ce_subject"])]
    return Message(
        name="".join(word.capitalize() for word in name.split("_")),
        summary="Make an execution." if is_new else f"Command an execution: {name.replace('_', ' ')}.",
        headers=headers,
        required=required,
        payload=model,
        key=_TEXT if is_new else EXECUTION_ID,
        is_open=False,
        may_be_empty=not any(field.is_required() for field in model.model_fields.values()),
    )


def _reply(model: type[BaseModel]) -> Message:
    headers: dict[str, Header] = {
        "ce_id": _TEXT | {"description": "The same for every reply to one delivery."},
        "ce_source": URI | {"description": "Who answers."},
        "ce_type": {"type": "string", "const": REPLY_TYPE},
        "ce_specversion": {"type": "string", "const": SPEC_VERSION},
        "ce_time": TIME,
        "ce_tenant": _TEXT | {"minLength": 1, "description": "Whose execution it is."},
        "ce_subject": EXECUTION_ID,
        CAUSATION: COMMAND_ID | {"description": "Id of the command."},
        CORRELATION: _TEXT | {"description": "As the command had it, or the command's id."},
        "content-type": {"type": "string", "const": CONTENT_TYPE},
    }
    return Message(
        name="Answered",
        summary="A command was carried out, now or before, or refused.",
        headers=headers,
        required=[name for name in headers if name != "ce_subject"],
        payload=model,
        key=COMMAND_ID | {"description": "Id of the command."},
    )


def _dead_letter() -> Message:
    added: dict[str, Header] = {
        "topic": _TEXT,
        "partition": _NUMBER,
        "offset": _NUMBER,
        "timestamp": {"type": "string", "pattern": "^-?[0-9]{1,19}$", "description": "Milliseconds since 1970."},
        "group": _TEXT | {"description": "The consumers that could make nothing of it."},
        "error": {"type": "string", "pattern": "^[a-z][a-z_]*$", "description": "The code of the reason."},
        "message": _TEXT | {"description": "The reason for people."},
        "cut-from": _NUMBER | {"description": "Bytes that the value had, if it was too large to keep."},
        "headers-left-out": _NUMBER | {"description": "How many, if they were too large to keep."},
    }
    return Message(
        name="DeadLetter",
        summary="Key, value and headers as they came, and these headers beside them.",
        headers={f"{DEAD_LETTER_PREFIX}{name}": schema for name, schema in added.items()},
        required=[
            f"{DEAD_LETTER_PREFIX}{name}"
            for name in ("topic", "partition", "offset", "timestamp", "group", "error", "message")
        ],
        payload=None,
    )
