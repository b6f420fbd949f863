"""Commands as records, and their signatures: read as they were written, and nothing else is taken for one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from events.codec import Record
from events.command_envelope import CommandEnvelope, CommandReply, MalformedEnvelopeError, headers_of, reply_record
from events.command_signature import SIGNED, CommandSigner, is_signed, signature_of, signing_secret
from events.dead_letters import LARGEST_HEAD, LARGEST_VALUE, ROOM, dead_letter
from tests.support.kafka_commands import with_header

ID = UUID("01970000-0000-7000-8000-000000000001")
TIME = datetime(2026, 1, 1, 9, tzinfo=UTC)
CANCEL = CommandEnvelope(
    id="once",
    type="agent.execution.cancel",
    source="/planner",
    time=TIME,
    subject=ID,
    data=b'{"reason": "superseded"}',
    tenant="acme",
    expected_version=7,
    traceparent=f"00-{'1' * 32}-{'2' * 16}-01",
    correlation=b"mine-1",
)


def read(record: Record) -> CommandEnvelope:
    return CommandEnvelope.of(record.key, record.value, headers_of(tuple(record.headers)))


class TestEnvelope:
    def test_what_is_written_is_read(self) -> None:
        record = CANCEL.to_record()
        assert read(record) == CANCEL
        assert record.key == str(ID).encode()
        assert CANCEL.name == "cancel"

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            *[(name, None) for name in ("ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time")],
            ("ce_specversion", b"0.3"),
            ("ce_id", b"two words"),
            ("ce_id", b"x" * 256),
            ("ce_id", "é".encode()),
            ("ce_id", b"\xff"),
            ("ce_time", b"yesterday"),
            ("ce_time", b"2026-01-01T09:00:00"),
            ("ce_subject", b"nonsense"),
            ("ce_subject", b"01970000-0000-7000-8000-000000000002"),
            ("ce_expectedversion", b"0"),
            ("ce_expectedversion", b"-1"),
            ("ce_expectedversion", "٣".encode()),
            ("ce_expectedversion", b"99999999999"),
        ],
    )
    def test_what_is_none(self, header: str, value: bytes | None) -> None:
        with pytest.raises(MalformedEnvelopeError):
            read(with_header(CANCEL.to_record(), header, value))

    def test_a_header_that_is_there_twice(self) -> None:
        record = CANCEL.to_record()
        with pytest.raises(MalformedEnvelopeError, match="same name"):
            headers_of((*record.headers, ("ce_id", b"another")))

    def test_a_reply(self) -> None:
        document = {"command_id": "once", "status": 200, "replayed": True, "execution": {"id": str(ID)}}
        record = reply_record(
            CANCEL, orjson.dumps(document), reply_id="topic:0:7", source="/service", tenant="acme", time=TIME
        )
        headers = dict(record.headers)
        assert (headers["ce_correlationid"], headers["ce_causationid"]) == (b"mine-1", b"once")
        assert (headers["ce_id"], headers["ce_tenant"], record.key) == (b"topic:0:7", b"acme", b"once")
        reply = CommandReply.of(record.value)
        assert reply.is_accepted
        assert (reply.status, reply.replayed, reply.execution) == (200, True, {"id": str(ID)})

    @pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"null", b"\xff"])
    def test_what_is_no_reply(self, value: bytes) -> None:
        with pytest.raises(MalformedEnvelopeError):
            CommandReply.of(value)


class TestSignature:
    SIGNER = CommandSigner("exk_abcdefghijkl", signing_secret("m" * 32, "exk_abcdefghijkl"))

    def signed(self, record: Record, topic: str = "commands") -> bool:
        return is_signed(self.SIGNER.secret, self.SIGNER.key, topic, dict(record.headers), record.value)

    def test_it_is_of_the_whole_command(self) -> None:
        record = self.SIGNER.sign("commands", CANCEL.to_record())
        assert self.signed(record)
        assert not self.signed(record, topic="others")
        assert not self.signed(Record(record.key, record.value + b" ", record.headers))
        for name in SIGNED:
            assert not self.signed(with_header(record, name, None)), name
            assert not self.signed(with_header(record, name, b"other")), name

    def test_an_absent_header_is_not_an_empty_one(self) -> None:
        plain = CommandEnvelope(id="once", type="t", source="s", time=TIME).to_record()
        record = self.SIGNER.sign("commands", plain)
        assert self.signed(record)
        assert not self.signed(with_header(record, "ce_tenant", b""))

    def test_the_reply_address_is_not_signed(self) -> None:
        record = self.SIGNER.sign("commands", CANCEL.to_record())
        assert self.signed(with_header(record, "ce_correlationid", b"a proxy's"))

    def test_every_key_has_a_secret_of_its_own(self) -> None:
        other = signing_secret("m" * 32, "exk_000000000000")
        assert other != self.SIGNER.secret != signing_secret("n" * 32, self.SIGNER.key)
        assert self.SIGNER.secret not in repr(self.SIGNER)

    def test_it_is_what_the_guide_says(self) -> None:
        """Computed once by hand: whoever signs in another language computes the same."""
        headers = {"ce_id": b"once", "ce_type": b"agent.execution.cancel"}
        assert (
            signature_of("secret", "key", "topic", headers, b"{}")
            == "cba7e3e57f5843bcd7b4868a6f80a89679573c22256b7f4ef9cbbaa8aab8f396"
        )


class TestDeadLetter:
    class Consumed:
        topic, partition, offset, timestamp = "commands", 3, 17, 1_767_258_000_000

        def __init__(self, value: Any = b"nonsense", headers: Any = (("ce_id", b"1"),), key: Any = None) -> None:
            self.value, self.headers, self.key = value, headers, key

    def test_it_says_where_from_and_why(self) -> None:
        letter = dead_letter(self.Consumed(), group="group", code="malformed_command", message="without a head")
        assert letter.value == b"nonsense"
        assert dict(letter.headers) == {
            "ce_id": b"1",
            "dlq-topic": b"commands",
            "dlq-partition": b"3",
            "dlq-offset": b"17",
            "dlq-timestamp": b"1767258000000",
            "dlq-group": b"group",
            "dlq-error": b"malformed_command",
            "dlq-message": b"without a head",
        }

    def test_what_is_far_too_large_is_cut_and_says_so(self) -> None:
        consumed = self.Consumed(b"x" * (LARGEST_VALUE + 9), [("ce_id", b"x" * LARGEST_HEAD)], b"k" * 9_000_000)
        letter = dead_letter(consumed, group="g", code="c", message="m" * 9_000_000)
        headers = dict(letter.headers)
        assert headers["dlq-cut-from"] == str(LARGEST_VALUE + 9).encode()
        assert headers["dlq-headers-left-out"] == b"1"
        size = len(letter.key) + len(letter.value) + sum(len(name) + len(value) for name, value in letter.headers)
        assert size < LARGEST_VALUE + ROOM

    def test_what_has_nothing(self) -> None:
        assert dead_letter(self.Consumed(None, [("h", None)]), group="g", code="c", message="m").value == b""
