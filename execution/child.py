"""What runs in a handler's own process. Imports little, because every such run pays for it."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from execution.domain.execution import JsonObject
from execution.domain.outcome import StopRequested
from execution.domain.progress import checked_percentage


@dataclass(frozen=True, kw_only=True)
class ChildCall:
    """Which function to call with what; everything of it can be pickled."""

    module: str
    qualname: str
    parameters: Any
    execution_id: UUID
    kind: str
    tenant_id: str
    agent_id: str | None
    task_id: str | None
    attempt: int
    deadline: datetime | None
    trace_context: str | None
    environment: Mapping[str, str]
    """What is added to the environment: by it the programs are known that the handler starts."""


class ChildContext:
    """`TaskContext` in the handler's process: progress goes through the pipe, a stop comes as SIGTERM."""

    def __init__(self, pipe: Connection, call: ChildCall) -> None:
        self._pipe = pipe
        self._stop = threading.Event()
        self.execution_id = call.execution_id
        self.kind = call.kind
        self.tenant_id = call.tenant_id
        self.agent_id = call.agent_id
        self.task_id = call.task_id
        self.attempt = call.attempt
        self.deadline = call.deadline
        self.trace_context = call.trace_context

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt."""
        return str(self.execution_id)

    @property
    def cancelled(self) -> bool:
        """Was this run asked to stop?"""
        return self._stop.is_set()

    def progress(self, percentage: float, message: str | None = None, context: JsonObject | None = None) -> None:
        """Report progress."""
        self._pipe.send(("progress", checked_percentage(percentage), message, context))

    def record(self, name: str, data: JsonObject | None = None) -> None:
        """Record a fact."""
        self._pipe.send(("fact", name, data))

    async def recorded(self) -> None:
        """A handler in a process cannot wait for the worker's loop."""
        raise RuntimeError("a handler in a process cannot wait for its facts; declare it `async def` to do so")

    def raise_if_cancelled(self) -> None:
        """Raise `StopRequested` if the run was asked to stop."""
        if self.cancelled:
            raise StopRequested("the run was asked to stop")

    async def pause_point(self) -> None:
        """A handler in a process cannot be held; it has no pause points."""
        raise RuntimeError("a handler in a process has no pause points; declare it `async def` to have them")

    def request_stop(self, *_: object) -> None:
        """Note that the run should stop (the handler of SIGTERM)."""
        self._stop.set()


def run_child(pipe: Connection) -> None:
    """Call the handler that the pipe names, and send what came of it. The parent's end is the only one that matters.

    Nothing is called before the parent has seen to it that this process does not outlive it.
    """
    os.setsid()  # so that whatever the handler starts can be ended together with it
    try:
        call = pipe.recv()
    except EOFError:  # the parent has died
        return
    except Exception as error:  # noqa: BLE001 - reading it runs code of the handler's module
        pipe.send(("error", type(error).__name__, f"the handler's parameters cannot be read: {error}"))
    else:
        _call(pipe, call)
    pipe.close()


def _call(pipe: Connection, call: ChildCall) -> None:
    os.environ.update(call.environment)
    context = ChildContext(pipe, call)
    signal.signal(signal.SIGTERM, context.request_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        function: Any = reduce(getattr, call.qualname.split("."), importlib.import_module(call.module))
        value = function(context, call.parameters)
    except StopRequested:
        pipe.send(("stopped",))
    except BaseException as error:  # noqa: BLE001 - whatever it raises is the handler's outcome
        pipe.send(("error", type(error).__name__, str(error)))
    else:
        _send_value(pipe, value)


def _send_value(pipe: Connection, value: Any) -> None:
    try:
        pipe.send(("value", value))
    except Exception as error:  # noqa: BLE001 - a value that cannot be pickled is the handler's failure
        pipe.send(("error", type(error).__name__, f"the handler's value cannot be sent: {error}"))
