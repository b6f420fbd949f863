"""Commands of a `CommandBus` and what is answered, as records: CloudEvents 1.0 in binary mode, the payload as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson
from msgspec import Struct

from events.codec import MalformedRecordError, Record
from events.commands import Payload, RejectedError
from events.deadlines import seconds_left, time_in
from events.envelope import CONTENT_TYPE, SPEC_VERSION
from events.request_reply import CORRELATION, Reply

ANSWERED, REFUSED = ".answered", ".refused"
"""What a reply's type adds to the command's."""
CAUSATION = "ce_causationid"

_REQUIRED = ("ce_id", "ce_source", "ce_type", "ce_specversion", CORRELATION)


class BusCommand(Struct, frozen=True, kw_only=True):
    """A command as who answers it gets it."""

    id: str
    type: str
    payload: Payload
    correlation: bytes
    seconds_left: float | None
    """Until nobody waits for the answer any more."""


def command_record(command_type: str, payload: Payload, *, source: str) -> Record:
    """The record of a command; who sends it adds the correlation and the deadline."""
    name = str(uuid4()).encode()
    return Record(name, orjson.dumps(payload), _attributes(name, command_type, source))


def read_command(value: bytes | None, headers: Mapping[str, bytes]) -> BusCommand:
    """The command of a record.

    Raises:
        MalformedRecordError: it is none.
    """
    if missing := [name for name in _REQUIRED if not headers.get(name)]:
        raise MalformedRecordError(f"without the headers {', '.join(missing)}")
    try:
        return BusCommand(
            id=headers["ce_id"].decode(),
            type=headers["ce_type"].decode(),
            payload=_object(value),
            correlation=headers[CORRELATION],
            seconds_left=seconds_left(headers),
        )
    except ValueError as error:
        raise MalformedRecordError(f"{type(error).__name__}: {error}") from error


def answer_record(command: BusCommand, payload: Payload, *, source: str) -> Record:
    """The record of an answer."""
    return _reply(command, ANSWERED, payload, source)


def refusal_record(command: BusCommand, problem: str, *, source: str) -> Record:
    """The record of an error as the answer."""
    return _reply(command, REFUSED, {"problem": problem}, source)


def read_reply(reply: Reply) -> Payload:
    """The answer of a reply.

    Raises:
        RejectedError: it is an error, or nothing that can be read.
    """
    kind = reply.headers.get("ce_type", b"").decode(errors="replace")
    try:
        payload = _object(reply.value)
    except ValueError as error:
        raise RejectedError(f"the reply cannot be read: {error}") from error
    if kind.endswith(ANSWERED):
        return payload
    raise RejectedError(str(payload.get("problem", f"a reply of the unknown type {kind!r}")))


def _reply(command: BusCommand, kind: str, payload: Payload, source: str) -> Record:
    headers = _attributes(str(uuid4()).encode(), command.type + kind, source)
    headers += [(CORRELATION, command.correlation), (CAUSATION, command.id.encode())]
    return Record(command.correlation, orjson.dumps(payload), headers)


def _attributes(name: bytes, event_type: str, source: str) -> list[tuple[str, bytes]]:
    return [
        ("ce_id", name),
        ("ce_source", source.encode()),
        ("ce_type", event_type.encode()),
        ("ce_specversion", SPEC_VERSION.encode()),
        ("ce_time", time_in(0)),
        ("content-type", CONTENT_TYPE.encode()),
    ]


def _object(value: bytes | None) -> dict[str, Any]:
    data = orjson.loads(value or b"")
    if not isinstance(data, dict):
        raise ValueError("its data is no JSON object")  # noqa: TRY004 - it is the value that is wrong
    return data
