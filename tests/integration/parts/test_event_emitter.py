"""`ExecutionEventEmitter`: the seed's three types with the seed's payloads, and nothing else of the execution."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import orjson
import pytest

from events.bus import InProcessEventBus, Subscription
from execution.domain.commands import Record
from execution.domain.execution import Execution
from execution.event_emitter import ExecutionEventEmitter, document_of, envelope_of, fact_of
from execution.repository.event_log import LoggedEvent
from tests.support.given import SITUATIONS, Log, asked_to_pause, at, completed, failed, pending, running
from tests.support.logged import logged_event

IDENTITY = {"execution_id", "agent_id", "task_id", "version", "occurred_at"}


@asynccontextmanager
async def emitting() -> AsyncIterator[tuple[ExecutionEventEmitter, Subscription]]:
    bus = InProcessEventBus()
    async with bus.subscribe() as subscription:
        yield ExecutionEventEmitter(bus), subscription


def logged(log: Log) -> list[LoggedEvent]:
    execution = log.execution
    return [logged_event(execution, event, execution.trace_context) for event in log.events]


def payload_of(entry: LoggedEvent) -> dict[str, Any]:
    payload: dict[str, Any] = orjson.loads(document_of(entry))
    return payload


async def test_state_changed() -> None:
    execution = pending(agent_id="a", task_id="t").execution
    async with emitting() as (emitter, subscription):
        await emitter.emit_state_changed(execution, execution.state.CREATED, "started")
        event = await subscription.get()
    assert event.type == "agent.execution.state_changed"
    assert event.payload == {
        "execution_id": str(execution.id),
        "agent_id": "a",
        "task_id": "t",
        "previous_state": "CREATED",
        "new_state": "PENDING",
        "reason": "started",
        "version": 2,
        "occurred_at": _written(execution),
    }


async def test_progress() -> None:
    log = running()
    async with emitting() as (emitter, subscription):
        await emitter.emit_progress_updated(log.execution)
        event = await subscription.get()
    assert event.type == "agent.execution.progress"
    assert event.payload.keys() == IDENTITY | {"percentage", "message", "context"}


async def test_completed() -> None:
    execution = completed().execution
    async with emitting() as (emitter, subscription):
        await emitter.emit_execution_completed(execution)
        event = await subscription.get()
    assert event.type == "agent.execution.completed"
    assert event.payload.keys() == IDENTITY | {
        "state",
        "result",
        "error",
        "started_at",
        "completed_at",
        "duration_seconds",
    }
    assert (event.payload["state"], event.payload["result"]) == ("COMPLETED", {"answer": 42})


async def test_every_entry_of_the_log_is_published_as_itself() -> None:
    log = asked_to_pause(agent_id="a")
    async with emitting() as (emitter, subscription):
        for entry in logged(log):
            await emitter.emit(entry)
        payloads = [(await subscription.get()).payload for _ in log.events]
    assert [payload["version"] for payload in payloads] == [1, 2, 3, 4]
    assert payloads[0]["previous_state"] is None
    assert payloads[3].keys() == IDENTITY | {"requested", "reason"}


def test_parameters_and_leases_stay_inside() -> None:
    log = failed(parameters={"secret": "hunter2"})
    said = [fact_of(entry).model_dump_json() for entry in logged(log)]
    assert not [one for one in said if "hunter2" in one or "lease_epoch" in one or "worker_id" in one]
    assert '"message":"it broke"' in said[-1]


def test_the_fact_and_the_emit_of_an_execution_agree() -> None:
    log = completed()
    fact: dict[str, Any] = fact_of(logged(log)[-1]).model_dump()
    assert UUID(str(fact["execution_id"])) == log.execution.id
    assert fact["duration_seconds"] == log.execution.duration_seconds == 0.0
    assert fact["occurred_at"] == at(0)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_payload_is_the_fact_as_json(situation: str) -> None:
    for entry in logged(SITUATIONS[situation](agent_id="a")):
        assert payload_of(entry) == fact_of(entry).model_dump(mode="json")


def test_a_fact_leaves_as_it_was_recorded() -> None:
    log = running()
    log.do(Record(fact="step.started", data={"step": 1, "started_at": "then"}))
    entry = logged(log)[-1]
    assert payload_of(entry) == fact_of(entry).model_dump(mode="json")
    assert payload_of(entry).keys() == IDENTITY | {"name", "data"}
    assert payload_of(entry)["data"] == {"step": 1, "started_at": "then"}


def test_the_envelope_says_whose_event_it_is_and_in_which_trace() -> None:
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    (first, *_) = logged(pending(tenant_id="mine", trace_context=trace))
    envelope = envelope_of(first, "/here")
    assert (envelope.tenant, envelope.traceparent, envelope.source) == ("mine", trace, "/here")
    assert envelope.id == f"{first.execution_id}:1"


def _written(execution: Execution) -> str:
    return execution.updated_at.isoformat().replace("+00:00", "Z")
