"""Executions and their log as clients see them: the JSON documents of every door, and one line for people.

| document | keys |
|---|---|
| execution | `id kind state version agent_id task_id parameters progress result error priority attempt run_at created_at started_at updated_at completed_at` |
| in a list | the same without `parameters` and `result`, and without the `context` of `progress` |
| entry of the log | `HistoryItem.to_json` |

`progress` has `percentage`, `message` and `context`; `error` is null or has at least `type` and `message`. Times are ISO
8601 with offset.

A `Document` is for orjson, which writes times by itself and passes on what is stored as it is; a `JsonObject` is plain.
"""  # noqa: E501 - the rows of the table

from __future__ import annotations

from typing import Any, TypeAlias

import orjson

from execution.domain.events import EventType
from execution.domain.execution import Execution, JsonObject
from execution.domain.history import HistoryItem
from execution.repository.stored import StoredExecution

Shown: TypeAlias = Execution | StoredExecution
Document: TypeAlias = dict[str, Any]


def execution_document(execution: Shown) -> Document:
    """The whole execution."""
    document = listed_execution_document(execution)
    document["parameters"] = execution.parameters
    document["progress"]["context"] = execution.progress.context
    document["result"] = execution.result
    return document


def listed_execution_document(execution: Shown) -> Document:
    """The execution as one item of a list, without what lists leave out."""
    return {
        "id": str(execution.id),
        "kind": execution.kind,
        "state": execution.state.value,
        "version": execution.version,
        "agent_id": execution.agent_id,
        "task_id": execution.task_id,
        "progress": {"percentage": execution.progress.percentage, "message": execution.progress.message},
        "error": execution.error,
        "priority": execution.priority,
        "attempt": execution.attempt,
        "run_at": execution.run_at,
        "created_at": execution.created_at,
        "started_at": execution.started_at,
        "updated_at": execution.updated_at,
        "completed_at": execution.completed_at,
    }


def execution_to_json(execution: Execution) -> JsonObject:
    """The whole execution as one JSON object."""
    return _plain(execution_document(execution))


def listed_execution_to_json(execution: Execution) -> JsonObject:
    """The item of a list as one JSON object."""
    return _plain(listed_execution_document(execution))


def linked(document: Document) -> Document:
    """The document of an execution with its links."""
    own = location(document["id"])
    document["links"] = {"self": own, "history": f"{own}/history", "events": f"{own}/events"}
    return document


def etag(execution: Shown) -> str:
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


def _plain(document: Document) -> JsonObject:
    plain: JsonObject = orjson.loads(orjson.dumps(document))
    return plain


_SHOWN_CHARACTERS = 100
"""Of what a fact's data hold."""

_DESCRIPTIONS = {
    EventType.STATE_CHANGED: _state_changed,
    EventType.PROGRESS: _progress,
    EventType.COMPLETED: _completed,
    EventType.PAUSE_REQUESTED: _pause_requested,
    EventType.RECORDED: _recorded,
}
