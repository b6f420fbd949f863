"""Between envelopes and records: CloudEvents 1.0 in binary mode, attributes in headers and data as JSON.

Data may be older than this release: upcasters bring it to the current schema, one version at a time. What is newer, or
is no event at all, is refused. Headers that are not known are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson
from msgspec import Struct
from msgspec.json import Encoder

from events.envelope import CONTENT_TYPE, DATA_VERSIONS, SPEC_VERSION, Envelope, Outgoing

Headers = Iterable[tuple[str, bytes]]
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

SEQUENCE_DIGITS = 10
"""So that texts order as the numbers do; a version has at most ten digits."""
_REQUIRED = ("ce_id", "ce_source", "ce_type", "ce_specversion", "ce_subject", "ce_sequence")
_KNOWN = frozenset({*_REQUIRED, "ce_time", "ce_tenant", "ce_dataversion", "traceparent", "content-type"})
_times = Encoder()
"""Writes them in a tenth of the time that `isoformat` takes, with a Z."""
_FIXED = (("ce_specversion", SPEC_VERSION.encode()), ("content-type", CONTENT_TYPE.encode()))


class MalformedRecordError(ValueError):
    """A record that is no event, or none that this release can read."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the record is no event of ours: {problem}")


class Record(Struct, frozen=True):
    """What goes over the wire."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class EventCodec:
    """Writes envelopes as records and reads them back.

    Args:
        upcasters: for a type and a version of its data, what makes the next version of it.
        data_versions: the version that data has in the end, by type; those that are not named are at their first.
    """

    def __init__(
        self,
        upcasters: Mapping[tuple[str, int], Upcaster] | None = None,
        data_versions: Mapping[str, int] = DATA_VERSIONS,
    ) -> None:
        self._upcasters = dict(upcasters or {})
        self._data_versions = data_versions

    def encode(self, envelope: Outgoing) -> Record:
        """The record of an event."""
        subject = envelope.subject.encode()
        headers = [
            ("ce_id", b"%b:%d" % (subject, envelope.sequence)),
            ("ce_subject", subject),
            _sequence(envelope.sequence),
            *_shared(envelope.source, envelope.type, envelope.data_version, envelope.tenant),
        ]
        if envelope.time is not None:
            headers.append(_time(envelope.time))
        if envelope.traceparent is not None:
            headers.append(("traceparent", envelope.traceparent.encode()))
        if envelope.others:
            headers += envelope.others
        return Record(subject, envelope.document, headers)

    def decode(self, value: bytes | None, headers: Headers) -> Envelope:
        """The event of a record, its data at the current version.

        Raises:
            MalformedRecordError: it is no event, or of a schema version that this release does not know.
        """
        pairs = tuple(headers)
        try:
            return self._decode(value, dict(pairs), tuple(pair for pair in pairs if pair[0] not in _KNOWN))
        except (ValueError, KeyError) as error:
            if isinstance(error, MalformedRecordError):
                raise
            raise MalformedRecordError(f"{type(error).__name__}: {error}") from error

    def _decode(
        self, value: bytes | None, headers: Mapping[str, bytes], others: tuple[tuple[str, bytes], ...]
    ) -> Envelope:
        missing = [name for name in _REQUIRED if not headers.get(name)]
        if missing:
            raise MalformedRecordError(f"without the headers {', '.join(missing)}")
        text = {name: headers[name].decode() for name in _KNOWN & headers.keys()}
        if text["ce_specversion"] != SPEC_VERSION:
            raise MalformedRecordError(f"CloudEvents {text['ce_specversion']}, not {SPEC_VERSION}")
        data = orjson.loads(value or b"")
        if not isinstance(data, dict):
            raise MalformedRecordError("its data is no JSON object")
        data, version = self._upcast(text["ce_type"], int(text.get("ce_dataversion", "1")), data)
        envelope = Envelope(
            type=text["ce_type"],
            source=text["ce_source"],
            subject=text["ce_subject"],
            sequence=int(text["ce_sequence"]),
            time=datetime.fromisoformat(text["ce_time"]) if "ce_time" in text else None,
            data=data,
            tenant=text.get("ce_tenant"),
            traceparent=text.get("traceparent"),
            data_version=version,
            others=others,
        )
        if envelope.id != text["ce_id"]:
            raise MalformedRecordError(f"its id is {text['ce_id']}, and it is {envelope.id}")
        return envelope

    def _upcast(self, event_type: str, version: int, data: dict[str, Any]) -> tuple[dict[str, Any], int]:
        current = self._data_versions.get(event_type, 1)
        if version > current:
            raise MalformedRecordError(f"data version {version} of {event_type} is newer than {current}")
        for one in range(version, current):
            upcaster = self._upcasters.get((event_type, one))
            if upcaster is None:
                raise MalformedRecordError(f"nothing reads data version {one} of {event_type}")
            data = upcaster(data)
        return data, current


# Kept, because events share most of their headers, and writing them is most of the encoding. Not so their times: nearly
# each one is new, and looking for it in vain, keeping it and dropping another one takes longer than writing it.


@lru_cache(maxsize=4_096)
def _shared(source: str, event_type: str, data_version: int, tenant: str | None) -> tuple[tuple[str, bytes], ...]:
    """The headers that do not tell one event from another."""
    headers = (
        ("ce_source", source.encode()),
        ("ce_type", event_type.encode()),
        ("ce_dataversion", str(data_version).encode()),
        *_FIXED,
    )
    return headers if tenant is None else (*headers, ("ce_tenant", tenant.encode()))


@lru_cache(maxsize=4_096)
def _sequence(number: int) -> tuple[str, bytes]:
    return "ce_sequence", str(number).zfill(SEQUENCE_DIGITS).encode()


def _time(time: datetime) -> tuple[str, bytes]:
    return "ce_time", _times.encode(time if time.tzinfo is UTC else time.astimezone(UTC))[1:-1]
