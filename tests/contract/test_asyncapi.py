"""The AsyncAPI document: valid by AsyncAPI's own schema, as it was agreed on, and true of every kind of record."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID

import jsonschema_rs
import pytest

from events.bus_records import answer_record, command_record, read_command, refusal_record
from events.codec import EventCodec, Record
from events.command_envelope import COMMANDS, CommandEnvelope, reply_record
from events.command_signature import CommandSigner
from events.dead_letters import dead_letter
from events.deadlines import EXPIRY, deadline_in
from events.envelope import Envelope
from events.facts import FACTS
from events.request_reply import CORRELATION
from execution.api.asyncapi import kafka_contract as document_for
from execution.builtin.summarizer import answer_model_request
from execution.errors import ExecutionNotFoundError
from execution.problems import problem_document
from execution.settings import Settings
from tests.support.facts import AT, execution_called, fact_envelope
from tests.support.kafka_contract import KafkaContract, kafka_contract

REPOSITORY = Path(__file__).parents[2]
AGREED = REPOSITORY / "docs" / "asyncapi.json"
SCHEMA = Path(__file__).parent / "asyncapi" / "asyncapi-3.1.0.schema.json"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EXECUTION_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def asyncapi() -> Any:
    """AsyncAPI's schema of documents."""
    return jsonschema_rs.validator_for(json.loads(SCHEMA.read_text(encoding="utf-8")))


def document(**changes: Any) -> dict[str, Any]:
    return document_for(Settings(**changes))


def nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for one in value.values():
            yield from nodes(one)
    elif isinstance(value, list):
        for one in value:
            yield from nodes(one)


def resolve(document: Mapping[str, Any], reference: str) -> Any:
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


class TestDocument:
    def test_it_is_one_by_the_schema_of_asyncapi(self, asyncapi: Any) -> None:
        assert [error.message for error in asyncapi.iter_errors(document())] == []
        assert document()["asyncapi"] == "3.1.0"

    def test_the_schema_would_notice(self, asyncapi: Any) -> None:
        for name, value in (("asyncapi", "3.0.0"), ("operations", {"x": {"action": "shout"}}), ("channel", {})):
            assert not asyncapi.is_valid(document() | {name: value})
        broken = document()
        broken["channels"]["executionEvents"]["bindings"]["kafka"]["partitions"] = 0
        assert not asyncapi.is_valid(broken)

    def test_every_reference_leads_somewhere(self) -> None:
        whole = document()
        references = [node["$ref"] for node in nodes(whole) if isinstance(node.get("$ref"), str)]
        assert references
        for reference in references:
            assert resolve(whole, reference), reference

    def test_it_is_what_was_agreed_on(self) -> None:
        agreed = json.loads(AGREED.read_text(encoding="utf-8"))
        assert document() == agreed, "the contract has changed: if that is meant, `make contract` renews the file"

    def test_topics_are_as_they_are_configured(self) -> None:
        events = document(kafka_events_topic="mine.v1", kafka_events_partitions=3, kafka_replication_factor=2)
        channel = events["channels"]["executionEvents"]
        assert channel["address"] == "mine.v1"
        assert channel["bindings"]["kafka"] | {"topicConfiguration": None} == {
            "topic": "mine.v1",
            "partitions": 3,
            "replicas": 2,
            "topicConfiguration": None,
            "bindingVersion": "0.5.0",
        }

    def test_it_says_nothing_of_where_the_brokers_are_or_how_to_get_in(self) -> None:
        secret = document(
            kafka_bootstrap_servers="broker.example:9093",
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="PLAIN",
            kafka_username="ada",
            kafka_password="whispered",
        )
        assert secret == document()


def problems(record: Record, contract: KafkaContract | None = None) -> list[str]:
    headers = {name: value.decode() for name, value in record.headers}
    return list((contract or kafka_contract()).problems(record.key, record.value, headers))


def encoded(**changes: Any) -> Record:
    return EventCodec().encode(fact_envelope(**changes))


def with_header(record: Record, name: str, value: bytes | None) -> Record:
    kept = [pair for pair in record.headers if pair[0] != name]
    return Record(record.key, record.value, kept if value is None else [*kept, (name, value)])


class TestEvents:
    @pytest.mark.parametrize("event_type", FACTS)
    def test_what_the_codec_writes_is_what_was_promised(self, event_type: str) -> None:
        assert problems(encoded(event_type=event_type)) == []
        assert problems(encoded(event_type=event_type, traceparent=f"00-{'1' * 32}-{'2' * 16}-01")) == []

    @pytest.mark.parametrize(
        ("record", "said"),
        [
            (with_header(encoded(), "ce_tenant", None), "ce_tenant"),
            (with_header(encoded(), "ce_id", b"7"), "headers ce_id"),
            (with_header(encoded(), "ce_sequence", b"7"), "headers ce_sequence"),
            (with_header(encoded(), "ce_time", b"yesterday"), "headers ce_time"),
            (with_header(encoded(), "traceparent", b"?"), "headers traceparent"),
            (with_header(encoded(), "ce_type", b"agent.execution.forgotten"), "is not in the contract"),
            (with_header(encoded(), "ce_other", b"x"), "the header ce_other is not in the contract"),
            (Record(b"other", encoded().value, encoded().headers), "key"),
            (Record(encoded().key, b"{", encoded().headers), "is no JSON"),
            (encoded(message=None, percentage="half"), "payload percentage"),
            (encoded(further=True), "the member further is not in the contract"),
        ],
    )
    def test_what_is_otherwise_is_noticed(self, record: Record, said: str) -> None:
        assert said in "; ".join(problems(record))

    def test_a_member_that_is_missing_is_noticed(self) -> None:
        whole = fact_envelope()
        data = {name: value for name, value in whole.data.items() if name != "percentage"}
        left_out = Envelope(**{name: getattr(whole, name) for name in whole.__struct_fields__} | {"data": data})
        assert "percentage" in "; ".join(problems(EventCodec().encode(left_out)))


EXECUTION = execution_called("one")
AN_EXECUTION = {
    **{"id": EXECUTION, "kind": "noop", "state": "PENDING", "version": 2, "agent_id": None, "task_id": None},
    **{
        "parameters": {},
        "progress": {"percentage": 0.0, "message": None, "context": {}},
        "result": None,
        "error": None,
    },
    **{"priority": 0, "attempt": 1, "run_at": "2025-06-01T12:00:00+00:00", "created_at": "2025-06-01T12:00:00+00:00"},
    **{"started_at": None, "updated_at": "2025-06-01T12:00:00+00:00", "completed_at": None},
    "links": {"self": "/v1/executions/1", "history": "/v1/executions/1/history", "events": "/v1/executions/1/events"},
}
BODIES: dict[str, Any] = {
    "create": {"kind": "noop", "id": EXECUTION},
    "cancel": {"reason": "superseded"},
    "report_progress": {"percentage": 40},
    "submit_result": {"result": {"pages": 10}},
}


def a_command(name: str = "cancel", data: Any = None, **changes: Any) -> CommandEnvelope:
    fields: dict[str, Any] = {
        "id": "night-1",
        "type": f"agent.execution.{name}",
        "source": "/planner",
        "time": AT,
        "subject": UUID(EXECUTION),
        "data": b"" if data is None else json.dumps(data).encode(),
    }
    return CommandEnvelope(**fields | changes)


def a_reply(**document: Any) -> Record:
    whole = {"command_id": "night-1", "status": 200, "replayed": False} | document
    names = {"reply_id": "execution.commands.v1:0:7", "source": "/execution-service", "tenant": "default"}
    return reply_record(a_command(), json.dumps(whole).encode(), time=AT, **names)


class TestCommands:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_what_a_sender_writes_is_what_was_promised(self, name: str) -> None:
        record = a_command(name, BODIES.get(name), expected_version=2, correlation=b"1").to_record()
        assert problems(record) == []
        assert problems(CommandSigner("exk_1", "secret").sign("execution.commands.v1", record)) == []

    @pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"create", "report_progress"}))
    def test_where_nothing_has_to_be_said_there_may_be_no_data(self, name: str) -> None:
        assert problems(a_command(name).to_record()) == []

    @pytest.mark.parametrize(
        ("command", "said"),
        [
            (a_command("report_progress"), "is no JSON"),
            (a_command("create"), "is no JSON"),
            (a_command("cancel", {"why": "superseded"}), "why"),
            (a_command("cancel", {"reason": 7}), "payload reason"),
            (a_command("create", {"parameters": {}}), "kind"),
            (a_command("forget"), "is not in the contract"),
            (a_command(id="with a blank"), "headers ce_id"),
            (a_command(expected_version=0), "headers ce_expectedversion"),
            (a_command(subject=None), "ce_subject"),
        ],
    )
    def test_what_is_none_is_noticed(self, command: CommandEnvelope, said: str) -> None:
        assert said in "; ".join(problems(command.to_record()))

    def test_a_reply_says_what_http_would(self) -> None:
        problem = problem_document(ExecutionNotFoundError(UUID(EXECUTION))) | {"instance": None, "request_id": None}
        assert problems(a_reply(execution=AN_EXECUTION)) == []
        assert problems(a_reply(status=404, problem=problem)) == []
        assert problems(a_reply()) == []  # too large to be sent
        assert "payload execution" in "; ".join(problems(a_reply(execution=AN_EXECUTION | {"version": 0})))
        assert "payload status" in "; ".join(problems(a_reply(status="fine")))
        assert "ce_tenant" in "; ".join(problems(with_header(a_reply(), "ce_tenant", None)))

    def test_a_dead_letter_says_from_where_and_why_and_may_hold_anything(self) -> None:
        origin = {"topic": "execution.commands.v1", "partition": 3, "offset": 42, "timestamp": 1_748_779_200_000}
        consumed = SimpleNamespace(key=b"\x00", value=b"\xff", headers=[("ce_type", b"nonsense")], **origin)
        letter = dead_letter(consumed, group="execution-commands", code="malformed_command", message="no command")
        assert problems(Record(b"", letter.value, letter.headers)) == []
        assert "dlq-offset" in "; ".join(problems(with_header(letter, "dlq-offset", None)))
        assert "headers dlq-partition" in "; ".join(problems(with_header(letter, "dlq-partition", b"x")))


class TestModelCalls:
    REQUEST: ClassVar[dict[str, Any]] = {
        "execution_id": EXECUTION,
        "agent": {"id": "writer", "model": "m-1", "instructions": ""},
        "input": {"text": "Once."},
    }

    def asked(self, **changes: Any) -> Record:
        record = command_record("model.complete", self.REQUEST | changes, source="/execution-service")
        return Record(record.key, record.value, [*record.headers, (CORRELATION, b"a-1"), deadline_in(30)])

    def test_a_request_its_answer_and_its_refusal(self) -> None:
        request = self.asked()
        command = read_command(request.value, dict(request.headers))
        embedded = answer_model_request(command.payload)
        assert problems(request) == []
        assert problems(answer_record(command, embedded, source="/models")) == []
        assert problems(refusal_record(command, "no such model", source="/models")) == []

    def test_what_is_none_is_noticed(self) -> None:
        request = self.asked()
        command = read_command(request.value, dict(request.headers))
        assert "payload input" in "; ".join(problems(self.asked(input=None)))
        assert EXPIRY in "; ".join(problems(with_header(request, EXPIRY, None)))
        assert "output" in "; ".join(problems(answer_record(command, {}, source="/models")))
