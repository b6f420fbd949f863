"""Commands and their replies as records: CloudEvents 1.0 in binary mode, what is commanded as JSON.

A command on an execution has that execution's id as its subject and as its record's key, so that the commands of one
execution stay in order. The data is what the body of the same request over HTTP would be.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from msgspec import Struct

from events.codec import Record
from events.envelope import CONTENT_TYPE, SPEC_VERSION
from events.request_reply import CORRELATION

PREFIX = "agent.execution."
COMMANDS = ("create", "start", "cancel", "pause", "resume", "retry", "report_progress", "submit_result")
"""What can be commanded; a command's type is one of these behind the prefix."""
REPLY_TYPE = f"{PREFIX}answered"
CAUSATION = "ce_causationid"
MAX_ID_LENGTH = 255

_REQUIRED = ("ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time")
_DIGITS = frozenset("0123456789")


class MalformedEnvelopeError(ValueError):
    """A record that is no command, or no reply."""


class CommandEnvelope(Struct, frozen=True, kw_only=True):
    """One command on its way in."""

    id: str
    """The sender's id of the command: sent again under the same one, it is not carried out again. 1 to 255 visible
    ASCII characters."""
    type: str
    source: str
    """Who sends it, as a URI reference."""
    time: datetime
    """When it was first sent."""
    subject: UUID | None = None
    """The execution; of a `create`, the id it shall get, or None."""
    data: bytes = b""
    """JSON, or nothing."""
    tenant: str | None = None
    """Whose execution it is. It is believed to nobody: it can only be that of the sender's key, or wrong."""
    expected_version: int | None = None
    """Apply to this version only."""
    traceparent: str | None = None
    correlation: bytes | None = None
    """By what the sender finds the reply."""

    @property
    def name(self) -> str:
        """What is commanded: the type without its prefix."""
        return self.type.removeprefix(PREFIX)

    def to_record(self) -> Record:
        """The record of a command, not yet signed."""
        pairs = {
            "ce_id": self.id,
            "ce_source": self.source,
            "ce_type": self.type,
            "ce_specversion": SPEC_VERSION,
            "ce_time": _written(self.time).decode(),
            "ce_subject": None if self.subject is None else str(self.subject),
            "ce_tenant": self.tenant,
            "ce_expectedversion": None if self.expected_version is None else str(self.expected_version),
            "traceparent": self.traceparent,
            "content-type": CONTENT_TYPE,
        }
        headers = [(name, text.encode()) for name, text in pairs.items() if text is not None]
        if self.correlation is not None:
            headers.append((CORRELATION, self.correlation))
        return Record(str(self.subject or self.id).encode(), self.data, headers)

    @classmethod
    def of(cls, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]) -> CommandEnvelope:
        """The command of a record.

        Raises:
            MalformedEnvelopeError: it is none.
        """
        try:
            return cls._of(key, value, headers)
        except ValueError as error:
            if isinstance(error, MalformedEnvelopeError):
                raise
            raise MalformedEnvelopeError(f"{type(error).__name__}: {error}") from error

    @classmethod
    def _of(cls, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]) -> CommandEnvelope:
        if missing := [name for name in _REQUIRED if not headers.get(name)]:
            raise MalformedEnvelopeError(f"without the headers {', '.join(missing)}")
        text = {name: one.decode() for name, one in headers.items() if name.startswith("ce_")}
        if text["ce_specversion"] != SPEC_VERSION:
            raise MalformedEnvelopeError(f"CloudEvents {text['ce_specversion']}, not {SPEC_VERSION}")
        subject = UUID(text["ce_subject"]) if "ce_subject" in text else None
        if subject is not None and key != str(subject).encode():
            raise MalformedEnvelopeError("its key is not the execution's id, which keeps the commands of one in order")
        return cls(
            id=_id(text["ce_id"]),
            type=text["ce_type"],
            source=text["ce_source"],
            time=_time(text["ce_time"]),
            subject=subject,
            data=value or b"",
            tenant=text.get("ce_tenant"),
            expected_version=_version(text["ce_expectedversion"]) if "ce_expectedversion" in text else None,
            traceparent=headers.get("traceparent", b"").decode() or None,
            correlation=headers.get(CORRELATION),
        )


class CommandReply(Struct, frozen=True, kw_only=True):
    """What came of a command: the same that the same request over HTTP is answered with."""

    command_id: str
    status: int
    """As over HTTP: 202 for a new execution, 200 for a command that was carried out, 4xx or 5xx with a problem."""
    replayed: bool = False
    """Is it the answer to an earlier sending, with nothing done now?"""
    execution: dict[str, Any] | None = None
    """The execution after the command."""
    problem: dict[str, Any] | None = None
    """Why it was refused (RFC 9457): the same types as over HTTP."""

    @property
    def is_accepted(self) -> bool:
        """Was it carried out, now or before?"""
        return self.problem is None

    @classmethod
    def of(cls, value: bytes) -> CommandReply:
        """The reply of a record.

        Raises:
            MalformedEnvelopeError: it is none.
        """
        try:
            document = orjson.loads(value)
            return cls(
                command_id=document["command_id"],
                status=document["status"],
                replayed=document["replayed"],
                execution=document.get("execution"),
                problem=document.get("problem"),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedEnvelopeError(f"{type(error).__name__}: {error}") from error


def reply_record(
    command: CommandEnvelope, data: bytes, *, reply_id: str, source: str, tenant: str, time: datetime
) -> Record:
    """The record of a reply. It has the command's id as its key, and says which command and which request it answers.

    Args:
        data: a `CommandReply` as JSON.
        reply_id: the same for every reply to one delivery of the command.
    """
    headers = [
        ("ce_id", reply_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", REPLY_TYPE.encode()),
        ("ce_specversion", SPEC_VERSION.encode()),
        ("ce_time", _written(time)),
        ("ce_tenant", tenant.encode()),
        (CAUSATION, command.id.encode()),
        (CORRELATION, command.correlation or command.id.encode()),
        ("content-type", CONTENT_TYPE.encode()),
    ]
    if command.subject is not None:
        headers.append(("ce_subject", str(command.subject).encode()))
    return Record(command.id.encode(), data, headers)


def headers_of(pairs: tuple[tuple[str, bytes], ...]) -> dict[str, bytes]:
    """The headers of a command by name.

    Raises:
        MalformedEnvelopeError: there are two of one name, and readers could differ about which of them counts.
    """
    headers = dict(pairs)
    if len(headers) != len(pairs):
        raise MalformedEnvelopeError("two headers have the same name")
    if any(not isinstance(value, bytes) for value in headers.values()):
        raise MalformedEnvelopeError("a header has no value")
    return headers


def _written(time: datetime) -> bytes:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z").encode()


def _id(text: str) -> str:
    if len(text) > MAX_ID_LENGTH or not all("!" <= character <= "~" for character in text):
        raise MalformedEnvelopeError(f"its id is not 1 to {MAX_ID_LENGTH} visible ASCII characters")
    return text


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise MalformedEnvelopeError("its time has no zone")
    return time


def _version(text: str) -> int:
    if not text or not _DIGITS.issuperset(text) or len(text) > 10 or int(text) < 1:
        raise MalformedEnvelopeError("the version it expects is no version")
    return int(text)
