"""An event with what a transport needs to know of it: the attributes of CloudEvents 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from msgspec import Struct

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
DATA_VERSIONS: Mapping[str, int] = {}
"""The schema version of each event type's data, where it is not the first."""


class Envelope(Struct, frozen=True, kw_only=True):
    """One event on its way out.

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
    data: dict[str, Any]
    tenant: str | None = None
    traceparent: str | None = None
    data_version: int = 1
    """The schema version of `data`."""
    others: tuple[tuple[str, bytes], ...] = ()
    """Headers that this release does not know, as they came."""

    @property
    def id(self) -> str:
        """The same for every sending of the same event."""
        return f"{self.subject}:{self.sequence}"

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
