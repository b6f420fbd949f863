"""Following executions live: one execution's log, or the log of all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from execution.api.caller import GuardedRoute, OwnService
from execution.api.door import OwnDoor
from execution.api.sse import MEDIA_TYPE, EventStream, Source, entry_frames, named_frame, ping_frame
from execution.api.streams import OpenStream
from execution.api.values import ONE
from execution.domain.events import EventType
from execution.domain.state import ExecutionState
from execution.errors import InvalidPositionError
from execution.log_stream import Follower
from execution.repository.log_position import StreamPosition
from execution.watcher import Watch

EXPIRED = "execution.stream.expired"
"""The event that tells a client that it has missed more than it can be given."""
_MOST_VERSION = 2**31 - 1
_EXAMPLE = (
    "id: 2\nevent: agent.execution.state_changed\n"
    'data: {"execution_id":"0199…","version":2,"type":"agent.execution.state_changed",…}\n\n'
)
_EVENTS: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {
        "description": "Server-sent events; `data` is an entry as in the history.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}
_NO_MORE: dict[int | str, dict[str, Any]] = {
    HTTPStatus.NO_CONTENT: {"description": "The execution has ended, and the client has all of it."}
}

router = APIRouter(prefix="/v1", tags=["streams"], route_class=GuardedRoute)


class LogQuery(BaseModel):
    """Which events, and from where on."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    after: Annotated[str, Field(max_length=8192)] | None = None
    """The id after which to go on; a `Last-Event-ID` header counts more. Without either, the stream begins now."""
    kind: str | None = None
    """Events of executions of this kind."""
    agent_id: str | None = None
    """Events of executions for this agent."""
    task_id: str | None = None
    """Events of executions of this task."""
    type: EventType | None = None
    """Events of this type."""
    state: ExecutionState | None = None
    """Events that bring an execution into this state."""


LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="Sent by a client that comes back.")]


async def _after_version(
    after: Annotated[
        int, Query(ge=0, le=_MOST_VERSION, description="Entries after this version; `Last-Event-ID` counts more.")
    ] = 0,
    last_event_id: LastEventId = None,
) -> int:
    return _version(last_event_id) if last_event_id else after


AfterVersion = Annotated[int, Depends(_after_version)]
"""Where a stream of one execution begins."""


async def _resources() -> AsyncIterator[AsyncExitStack]:
    """What a stream holds, until its response has been sent or given up."""
    async with AsyncExitStack() as stack:
        yield stack


Resources = Annotated[AsyncExitStack, Depends(_resources)]


@router.get(
    f"/executions{ONE}/events",
    operation_id="stream_execution",
    status_code=200,
    response_class=EventStream,
    responses=_EVENTS | _NO_MORE,
)
async def stream_execution(
    execution_id: UUID, after: AfterVersion, service: OwnService, door: OwnDoor, resources: Resources
) -> Response:
    """The execution's log after a version, and then live, until the entry that completes it."""
    execution = await service.get_execution(execution_id)
    if execution.is_terminal and after >= execution.version:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    if after > execution.version:
        raise InvalidPositionError(after, f"at most {execution.version}, the version of execution {execution_id}")
    stream = resources.enter_context(door.streams.opened())
    watch = resources.enter_context(service.watching(execution, after))
    return _events(_ExecutionSource(watch, door.settings.stream_ping_seconds), stream, door)


@router.get("/events", operation_id="stream_events", status_code=200, response_class=EventStream, responses=_EVENTS)
async def stream_events(
    query: Annotated[LogQuery, Query()],
    service: OwnService,
    door: OwnDoor,
    resources: Resources,
    last_event_id: LastEventId = None,
) -> Response:
    """The log of all executions of the caller's tenant, live, without end."""
    word = last_event_id or query.after
    after = StreamPosition.decode(word) if word else None
    stream = resources.enter_context(door.streams.opened())
    wanted = query.model_dump(exclude={"after"}, exclude_none=True)
    follower = await resources.enter_async_context(service.following(wanted, after))
    return _events(_LogSource(follower, door.settings.stream_ping_seconds), stream, door)


class _ExecutionSource:
    """One execution's log; ids are versions."""

    def __init__(self, watch: Watch, ping_seconds: float) -> None:
        self._watch = watch
        self._ping_seconds = ping_seconds

    @property
    def has_ended(self) -> bool:
        return self._watch.has_ended

    def begin(self) -> bytes:
        return b""

    async def take(self) -> bytes:
        items = await self._watch.take(self._ping_seconds)
        return entry_frames((item, str(item.version)) for item in items) or ping_frame()


class _LogSource:
    """The log of all executions; ids are positions in it."""

    has_ended = False

    def __init__(self, follower: Follower, ping_seconds: float) -> None:
        self._follower = follower
        self._ping_seconds = ping_seconds

    def begin(self) -> bytes:
        position = self._follower.position.encode()
        if not self._follower.has_expired:
            return ping_frame(position)
        advice = "More was missed than is sent again. List the executions anew; what is entered from now on follows."
        return named_frame(EXPIRED, {"code": "stream_expired", "detail": advice}, position)

    async def take(self) -> bytes:
        entries = await self._follower.take(self._ping_seconds)
        frames = entry_frames((entry.item, entry.position.encode()) for entry in entries)
        return frames or ping_frame(self._follower.position.encode())


def _events(source: Source, stream: OpenStream, door: OwnDoor) -> EventStream:
    return EventStream(source, stream, lifetime=door.settings.stream_lifetime_seconds)


def _version(last_event_id: str) -> int:
    if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 10:
        version = int(last_event_id)
        if version <= _MOST_VERSION:
            return version
    raise InvalidPositionError(last_event_id, "the version of an entry")
