"""Executions and their log as clients see them: the JSON documents of every door, and one line for people.

| document | keys |
|---|---|
| execution | `id kind state version agent_id task_id parameters progress result error priority attempt run_at created_at started_at updated_at completed_at` |
| in a list | the same without `parameters` and `result`, and without the `context` of `progress` |
| entry of the log | `HistoryItem.to_json` |

`progress` has `percentage`, `message` and `context`; `error` is null or has at least `type` and `message`. Times are ISO
8601 with offset.
"""  # noqa: E501 - the rows of the table

from __future__ import annotations

from datetime import datetime
from typing import Any

from execution.domain.events import EventType
from execution.domain.execution import Execution, JsonObject
from execution.domain.history import HistoryItem


def execution_to_json(execution: Execution) -> JsonObject:
    """The whole execution as one JSON object."""
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
        "run_at": _time(execution.run_at),
        "created_at": _time(execution.created_at),
        "started_at": _time(execution.started_at),
        "updated_at": _time(execution.updated_at),
        "completed_at": _time(execution.completed_at),
    }


def listed_execution_to_json(execution: Execution) -> JsonObject:
    """The execution as one item of a list, without what lists leave out."""
    document = execution_to_json(execution)
    del document["parameters"], document["result"], document["progress"]["context"]
    return document


def linked(document: JsonObject) -> JsonObject:
    """The document of an execution with its links."""
    own = location(document["id"])
    document["links"] = {"self": own, "history": f"{own}/history", "events": f"{own}/events"}
    return document


def etag(execution: Execution) -> str:
    """The strong entity tag of an execution: its version."""
    return f'"{execution.version}"'


def location(execution_id: object) -> str:
    """Where an execution is."""
    return f"/v1/executions/{execution_id}"


def describe_entry(item: HistoryItem) -> str:
    """What one entry of the log says, in a few words."""
    return printable(_DESCRIPTIONS[EventType(item.type)](item.data))


def describe_actor(item: HistoryItem) -> str:
    """Who caused an entry; of a worker only the end of its id, which tells workers apart well enough."""
    actor = item.actor or ""
    name, _, identity = actor.partition(":")
    return printable(f"{name} …{identity[-6:]}" if name == "worker" else actor)


def printable(text: str) -> str:
    """The text on one line, without characters that steer a terminal: handlers and clients write what they like."""
    return "".join(character if character.isprintable() else " " for character in text)


def _state_changed(data: JsonObject) -> str:
    return f"{data['previous_state'] or '·'} → {data['new_state']}{_because(data)}"


def _progress(data: JsonObject) -> str:
    message = data["message"]
    return f"{data['percentage']:.0f} %" + (f"  {message}" if message else "")


def _completed(data: JsonObject) -> str:
    seconds, error = data["duration_seconds"], data["error"]
    took = f" after {seconds:.2f} s" if seconds is not None else ""
    return f"{data['state']}{took}" + (f": {error.get('type')}: {error.get('message')}" if error else "")


def _pause_requested(data: JsonObject) -> str:
    return ("pause requested" if data["requested"] else "pause withdrawn") + _because(data)


def _recorded(data: JsonObject) -> str:
    plain = [f"{name}={value}" for name, value in data["data"].items() if isinstance(value, str | int | float)]
    said = ", ".join(plain)
    shown = said if len(said) <= _SHOWN_CHARACTERS else f"{said[:_SHOWN_CHARACTERS]}…"
    return f"{data['name']}  ({shown})" if shown else f"{data['name']}"


def _because(data: JsonObject) -> str:
    return f"  ({data['reason']})" if data.get("reason") else ""


def _time(moment: datetime | None) -> Any:
    return None if moment is None else moment.isoformat()


_SHOWN_CHARACTERS = 100
"""Of what a fact's data hold."""

_DESCRIPTIONS = {
    EventType.STATE_CHANGED: _state_changed,
    EventType.PROGRESS: _progress,
    EventType.COMPLETED: _completed,
    EventType.PAUSE_REQUESTED: _pause_requested,
    EventType.RECORDED: _recorded,
}
