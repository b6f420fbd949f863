"""`read_event`: what a consumer takes for an event, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from events.codec import EventCodec, MalformedRecordError
from events.consumed_event import read_event
from events.envelope import Envelope
from events.facts import Fact, ProgressFact

EXECUTION = "01970000-0000-7000-8000-000000000001"
DATA: dict[str, Any] = {
    "execution_id": EXECUTION,
    "agent_id": None,
    "task_id": "t",
    "version": 3,
    "occurred_at": "2025-06-01T12:00:00Z",
    "percentage": 50.0,
    "message": None,
    "context": {},
}


@dataclass
class Consumed:
    """As much of a client's record as is read."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int = 1
    offset: int = 7


def record(event_type: str = "agent.execution.progress", **data: Any) -> Consumed:
    envelope = Envelope(
        type=event_type, source="/s", subject=EXECUTION, sequence=3, time=None, data=DATA | data, tenant="ours"
    )
    written = EventCodec().encode(envelope)
    return Consumed(written.key, written.value, written.headers)


def test_it_knows_its_type_and_its_place() -> None:
    event = read_event(record(), EventCodec())
    assert (event.id, event.type, event.tenant) == (f"{EXECUTION}:3", "agent.execution.progress", "ours")
    assert (event.execution_id, event.version) == (UUID(EXECUTION), 3)
    assert (event.partition, event.offset) == (1, 7)
    assert isinstance(event.fact, ProgressFact)
    assert event.fact.percentage == 50.0


def test_what_it_does_not_know_it_ignores_and_keeps() -> None:
    event = read_event(record(later="field"), EventCodec())
    assert isinstance(event.fact, ProgressFact)
    assert event.envelope.data["later"] == "field"
    unknown = read_event(record("agent.execution.unheard_of"), EventCodec())
    assert type(unknown.fact) is Fact
    assert (unknown.version, unknown.envelope.data["percentage"]) == (3, 50.0)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"percentage": "much"}, "data of agent.execution.progress: percentage not as"),
        ({"execution_id": "x", "context": None}, "context, execution_id not as"),
        ({"version": 4}, "its data is about .*:4, and it is .*:3"),
        ({"execution_id": EXECUTION.replace("1", "2")}, "its data is about"),
    ],
)
def test_data_that_does_not_fit(data: dict[str, Any], problem: str) -> None:
    with pytest.raises(MalformedRecordError, match=problem):
        read_event(record(**data), EventCodec())


@pytest.mark.parametrize("key", [None, b"", b"somebody"])
def test_a_key_that_keeps_no_order(key: bytes | None) -> None:
    broken = record()
    broken.key = key
    with pytest.raises(MalformedRecordError, match="its key is not its execution's id"):
        read_event(broken, EventCodec())


def test_a_problem_does_not_repeat_what_the_data_says() -> None:
    with pytest.raises(MalformedRecordError) as raised:
        read_event(record(percentage="a secret"), EventCodec())
    assert "a secret" not in str(raised.value)
