"""The codec: CloudEvents in binary mode, data of older versions brought up to date, strangers refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from events.codec import EventCodec, MalformedRecordError, Record
from events.envelope import Envelope

AN_EVENT = "agent.execution.progress"
EXECUTION = "01970000-0000-7000-8000-000000000001"
TRACE = f"00-{'1' * 32}-{'2' * 16}-01"


def envelope(**changes: Any) -> Envelope:
    values: dict[str, Any] = {
        "type": AN_EVENT,
        "source": "/execution-service",
        "subject": EXECUTION,
        "sequence": 7,
        "time": datetime(2025, 6, 1, 12, 30, 0, 250_000, tzinfo=UTC),
        "data": {"execution_id": EXECUTION, "version": 7, "message": "ü"},
        "tenant": "mine",
        "traceparent": TRACE,
    }
    return Envelope(**values | changes)


def encoded(**changes: Any) -> Record:
    return EventCodec().encode(envelope(**changes))


def with_header(record: Record, name: str, value: bytes | None) -> list[tuple[str, bytes]]:
    kept = [pair for pair in record.headers if pair[0] != name]
    return kept if value is None else [*kept, (name, value)]


def test_the_record_of_an_event() -> None:
    record = encoded()
    assert record.key == EXECUTION.encode()
    assert orjson.loads(record.value) == envelope().data
    assert dict(record.headers) == {
        "ce_id": f"{EXECUTION}:7".encode(),
        "ce_source": b"/execution-service",
        "ce_type": AN_EVENT.encode(),
        "ce_specversion": b"1.0",
        "ce_time": b"2025-06-01T12:30:00.250000Z",
        "ce_subject": EXECUTION.encode(),
        "ce_tenant": b"mine",
        "ce_sequence": b"0000000007",
        "ce_dataversion": b"1",
        "traceparent": TRACE.encode(),
        "content-type": b"application/json",
    }


@pytest.mark.parametrize("changes", [{}, {"tenant": None, "traceparent": None, "time": None}, {"sequence": 2**31 - 1}])
def test_it_is_read_back_as_it_was(changes: dict[str, Any]) -> None:
    record = encoded(**changes)
    assert EventCodec().decode(record.value, record.headers) == envelope(**changes)


def test_sequences_order_as_texts() -> None:
    texts = [dict(encoded(sequence=number).headers)["ce_sequence"] for number in (2, 10, 999, 2**31 - 1)]
    assert texts == sorted(texts)


def test_headers_that_are_not_known_are_kept() -> None:
    others = (("ce_partitionkey", b"x"), ("trace-flags", b"\xff"))
    record = encoded(others=others)
    assert EventCodec().decode(record.value, record.headers).others == others


def test_older_data_is_brought_up_to_date_one_version_at_a_time() -> None:
    codec = EventCodec(
        {(AN_EVENT, 1): lambda data: data | {"two": True}, (AN_EVENT, 2): lambda data: data | {"three": data["two"]}},
        data_versions={AN_EVENT: 3},
    )
    record = encoded()
    event = codec.decode(record.value, record.headers)
    assert (event.data_version, event.data["two"], event.data["three"]) == (3, True, True)


def test_newer_data_and_data_that_nothing_reads_are_refused() -> None:
    newer = encoded(data_version=2)
    with pytest.raises(MalformedRecordError, match=r"data version 2 of agent\.execution\.progress is newer than 1"):
        EventCodec().decode(newer.value, newer.headers)
    older = encoded()
    with pytest.raises(MalformedRecordError, match="nothing reads data version 1"):
        EventCodec(data_versions={AN_EVENT: 2}).decode(older.value, older.headers)


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type", "ce_specversion", "ce_subject"])
def test_a_record_without_an_attribute_is_refused(name: str) -> None:
    record = encoded()
    with pytest.raises(MalformedRecordError, match=name):
        EventCodec().decode(record.value, with_header(record, name, None))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_id", b"another:7"),
        ("ce_specversion", b"0.3"),
        ("ce_sequence", b"seven"),
        ("ce_time", b"yesterday"),
        ("ce_type", b"\xff"),
        ("ce_dataversion", b"x"),
    ],
)
def test_a_record_with_a_wrong_attribute_is_refused(name: str, value: bytes) -> None:
    record = encoded()
    with pytest.raises(MalformedRecordError):
        EventCodec().decode(record.value, with_header(record, name, value))


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"\xff"])
def test_a_record_without_data_is_refused(value: bytes | None) -> None:
    with pytest.raises(MalformedRecordError):
        EventCodec().decode(value, encoded().headers)
