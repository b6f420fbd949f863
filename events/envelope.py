"""An event with what a transport needs to know of it: the attributes of CloudEvents 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, TypeAlias

import orjson
from msgspec import Struct
from msgspec.json import Encoder

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
DATA_VERSIONS: Mapping[str, int] = {}
"""The schema version of each event type's data, where it is not the first."""

_data = Encoder()
"""It takes as much memory as a text needs. orjson cuts its texts from larger pieces, and where some hundreds of them
are kept for a moment, giving the rest back and asking for it again takes ten times as long as the encoding."""


class Attributes(Struct, frozen=True, kw_only=True):
    """What is known of an event without its data.

    Its id is `{subject}:{sequence}`: an execution's id and the version that the event made of it. A consumer drops
    what it has by `sequence <= last` of the same subject.
    """

    type: str
    source: str
    """Who says so, as a URI reference."""
    subject: str
    """The execution; also the record's key, so that its events stay in order."""
    sequence: int
    time: datetime | None
    """When it happened, not when it was sent."""
    tenant: str | None = None
    traceparent: str | None = None
    data_version: int = 1
    """The schema version of its data."""
    others: tuple[tuple[str, bytes], ...] = ()
    """Headers that this release does not know, as they came."""

    @property
    def id(self) -> str:
        """The same for every sending of the same event."""
        return f"{self.subject}:{self.sequence}"


class Envelope(Attributes, frozen=True, kw_only=True):
    """One event with its data."""

    data: dict[str, Any]

    @property
    def document(self) -> bytes:
        """Its data as JSON."""
        return _data.encode(self.data)

    @classmethod
    def around(cls, event_type: str, payload: dict[str, Any], *, source: str) -> Self:
        """Of a payload alone, which says of which execution it is, and when."""
        occurred_at = payload.get("occurred_at")
        return cls(
            type=event_type,
            source=source,
            subject=str(payload["execution_id"]),
            sequence=int(payload["version"]),
            time=datetime.fromisoformat(occurred_at) if occurred_at else None,
            data=payload,
            data_version=DATA_VERSIONS.get(event_type, 1),
        )


class WrittenEnvelope(Attributes, frozen=True, kw_only=True):
    """One event whose data is JSON already, as whoever only passes it on has it."""

    document: bytes

    @property
    def data(self) -> dict[str, Any]:
        """Read anew each time."""
        data: dict[str, Any] = orjson.loads(self.document)
        return data


Outgoing: TypeAlias = Envelope | WrittenEnvelope
"""What a bus is given."""
