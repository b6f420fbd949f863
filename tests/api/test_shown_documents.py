"""What clients are shown of an execution, whichever way it comes: decoded, or passed on as it is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from execution.domain.execution import Execution, JsonObject, Progress
from execution.domain.state import ExecutionState
from execution.ids import new_id
from execution.presentation import execution_document, execution_to_json, linked, listed_execution_document
from execution.repository.records import to_json
from execution.service import ExecutionService
from tests.support.json_values import OBJECTS, TEXTS

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)) | st.just(
    datetime(2026, 1, 1, tzinfo=UTC)
)
ERRORS = st.builds(lambda more, kind, text: more | {"type": kind, "message": text}, OBJECTS, TEXTS, TEXTS)


@st.composite
def executions(draw: st.DrawFn) -> Execution:
    """A row that the tables take; no log leads to it."""
    state = draw(st.sampled_from(ExecutionState))
    return Execution(
        id=new_id(),
        tenant_id="default",
        kind=draw(st.sampled_from(["noop", "text.analyze"])),
        state=state,
        version=draw(st.integers(1, 2**31 - 1)),
        parameters=draw(OBJECTS),
        created_at=draw(MOMENTS),
        updated_at=draw(MOMENTS),
        run_at=draw(MOMENTS),
        started_at=draw(st.none() | MOMENTS),
        completed_at=draw(MOMENTS) if state.is_terminal else None,
        agent_id=draw(st.none() | TEXTS),
        task_id=draw(st.none() | TEXTS),
        priority=draw(st.integers(-(2**15), 2**15 - 1)),
        attempt=draw(st.integers(1, 2**31 - 1)),
        progress=Progress(
            percentage=draw(st.floats(0, 100)), message=draw(st.none() | TEXTS), context=draw(st.just({}) | OBJECTS)
        ),
        result=draw(st.none() | OBJECTS),
        error=draw(st.none() | ERRORS),
    )


def shown(execution: Execution) -> JsonObject:
    """What has always been shown, member by member."""
    own = f"/v1/executions/{execution.id}"

    def time(moment: datetime | None) -> str | None:
        return moment.isoformat() if moment else None

    return {
        "id": str(execution.id),
        "kind": execution.kind,
        "state": execution.state.value,
        "version": execution.version,
        "agent_id": execution.agent_id,
        "task_id": execution.task_id,
        "parameters": execution.parameters,
        "progress": {
            "percentage": execution.progress.percentage,
            "message": execution.progress.message,
            "context": execution.progress.context,
        },
        "result": execution.result,
        "error": execution.error,
        "priority": execution.priority,
        "attempt": execution.attempt,
        "run_at": time(execution.run_at),
        "created_at": time(execution.created_at),
        "started_at": time(execution.started_at),
        "updated_at": time(execution.updated_at),
        "completed_at": time(execution.completed_at),
        "links": {"self": own, "history": f"{own}/history", "events": f"{own}/events"},
    }


def shown_in_lists(execution: Execution) -> JsonObject:
    document = shown(execution)
    del document["parameters"], document["result"], document["progress"]["context"]
    return document


@given(executions())
def test_of_an_execution_in_memory(execution: Execution) -> None:
    assert orjson.loads(orjson.dumps(linked(execution_document(execution)))) == shown(execution)
    assert orjson.loads(orjson.dumps(linked(listed_execution_document(execution)))) == shown_in_lists(execution)
    assert linked(execution_to_json(execution)) == shown(execution)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(executions(), min_size=1, max_size=8))
async def test_of_what_is_stored(api: httpx.AsyncClient, service: ExecutionService, made: list[Execution]) -> None:
    pool = service.repository.db.pool
    await pool.executemany(INSERT, [values(one) for one in made])
    stored = [await service.get_execution(one.id) for one in made]
    try:
        for execution in stored:
            answer = await api.get(f"/v1/executions/{execution.id}")
            assert orjson.loads(answer.content) == shown(execution)
            assert answer.headers["etag"] == f'"{execution.version}"'
        newest_first = sorted(stored, key=lambda one: one.id, reverse=True)
        for query in ("limit=8", "page_size=8"):
            items = orjson.loads((await api.get(f"/v1/executions?{query}")).content)["items"]
            assert items == [shown_in_lists(one) for one in newest_first]
    finally:
        await pool.execute("DELETE FROM executions")  # no log leads to them


COLUMNS = (
    *("id", "tenant_id", "kind", "state", "version", "parameters", "created_at", "updated_at", "run_at", "started_at"),
    *("completed_at", "agent_id", "task_id", "priority", "attempt", "result", "error", "progress_percentage"),
    *("progress_message", "progress_context", "lease_epoch", "rescues", "idempotent", "pause_requested"),
)
INSERT = "INSERT INTO executions ({}) VALUES ({})".format(
    ", ".join(COLUMNS), ", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))
)
DOCUMENTS = {"parameters", "result", "error"}


def values(execution: Execution) -> list[Any]:
    """Of the columns, in their order; a context of nothing is no context."""
    progress = execution.progress
    own = {
        "progress_percentage": progress.percentage,
        "progress_message": progress.message,
        "progress_context": to_json(progress.context or None),
    } | {name: to_json(getattr(execution, name)) for name in DOCUMENTS}
    return [own[name] if name in own else getattr(execution, name) for name in COLUMNS]
