"""What runs an execution: handlers, the registry that finds them by kind, and what a handler is given.

    registry = HandlerRegistry()

    @registry.handler("report.render", idempotent=True)
    async def render(context: TaskContext, parameters: RenderParameters) -> RenderResult: ...

A handler takes the context and the parameters: a pydantic model if annotated so (then parameters are validated
before the execution is accepted), otherwise the JSON object as it came. It returns a JSON object, a pydantic model,
None, or a `PartialSuccess`. `async def` handlers share the worker's event loop and must not block it; plain `def`
handlers run in a thread of their own, or in a process of their own when declared `isolation="process"`, which
cancellation can kill.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar, get_type_hints
from uuid import UUID

from pydantic import BaseModel, ValidationError

from execution.domain.documents import problems_of
from execution.domain.execution import JsonObject
from execution.errors import InvalidDocumentError, SettingsError, UnknownKindError

Isolation = Literal["task", "thread", "process"]
AnyCallable = TypeVar("AnyCallable", bound=Callable[..., Any])

ENTRY_POINT_GROUP = "execution.handlers"


class TaskContext(Protocol):
    """What a handler is given besides its parameters. Safe to use from the handler's own thread or process."""

    @property
    def execution_id(self) -> UUID: ...

    @property
    def kind(self) -> str: ...

    @property
    def tenant_id(self) -> str: ...

    @property
    def agent_id(self) -> str | None: ...

    @property
    def task_id(self) -> str | None: ...

    @property
    def attempt(self) -> int:
        """1 for the first run, one more for each retry or rescue."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this execution: give it to the systems you call."""

    @property
    def deadline(self) -> datetime | None:
        """When this attempt's time limit ends, by the database's clock; None without a limit."""

    @property
    def trace_context(self) -> str | None:
        """The submitter's W3C `traceparent`, to pass on."""

    @property
    def cancelled(self) -> bool:
        """Was this run asked to stop (by a command, a time limit, or the worker's own stop)?"""

    def progress(self, percentage: float, message: str | None = None, context: JsonObject | None = None) -> None:
        """Report progress, 0 to 100. Cheap: reports are coalesced, the last one is always written."""

    def record(self, name: str, data: JsonObject | None = None) -> None:
        """Record a fact in the execution's log that changes nothing of it, such as `step.started`. Facts and reports
        are written in the order they were given; with the run's end at the latest."""

    async def recorded(self) -> None:
        """Return when what was recorded so far is in the log; for asynchronous handlers. Raises `LeaseLost` if it
        cannot be any more."""

    def raise_if_cancelled(self) -> None:
        """Raise `StopRequested` if this run was asked to stop; for blocking handlers."""

    async def pause_point(self) -> None:
        """Wait here while the execution is paused; an asynchronous handler calls it where it can be held."""


class StepExecutor(Protocol):
    """What executes steps: a `StepHandler` or an `AsyncStepHandler` (`execution.steps`)."""

    @property
    def execute(self) -> Callable[..., Any]: ...


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A registered handler: how to call it and what it promises."""

    kind: str
    function: Callable[..., Any]
    isolation: Isolation
    idempotent: bool
    parameters_model: type[BaseModel] | None
    description: str

    def parse(self, parameters: JsonObject) -> Any:
        """What the function takes as its parameters.

        Raises:
            InvalidDocumentError: the parameters do not fit the handler's model; it says which and why.
        """
        if self.parameters_model is None:
            return parameters
        try:
            return self.parameters_model.model_validate(parameters)
        except ValidationError as error:
            problems = problems_of(error, "parameters")
            raise InvalidDocumentError(f"parameters of {self.kind!r}", problems) from None


class HandlerRegistry:
    """The handlers of one process, by kind."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._step_handlers: dict[str, StepExecutor] = {}

    def handler(
        self, kind: str, *, idempotent: bool = False, isolation: Isolation | None = None
    ) -> Callable[[AnyCallable], AnyCallable]:
        """Decorator: register the function for `kind`.

        `idempotent=True` promises that running it twice does no harm, so a run cut off by a dying worker is repeated;
        without it such an execution ends FAILED with `outcome_unknown`.
        """

        def register(function: AnyCallable) -> AnyCallable:
            self.register(kind, function, idempotent=idempotent, isolation=isolation)
            return function

        return register

    def register(
        self,
        kind: str,
        function: Callable[..., Any],
        *,
        idempotent: bool = False,
        isolation: Isolation | None = None,
        parameters_model: type[BaseModel] | None = None,
    ) -> Handler:
        """Register the function for `kind`, once. `parameters_model` goes before an annotated one."""
        if kind in self._handlers:
            raise ValueError(f"kind {kind!r} is registered twice; give one of the handlers another kind")
        is_async = inspect.iscoroutinefunction(function)
        isolation = isolation or ("task" if is_async else "thread")
        if is_async != (isolation == "task"):
            raise ValueError(f"handler of {kind!r}: `async def` runs as a task, plain `def` in a thread or a process")
        handler = Handler(
            kind=kind,
            function=function,
            isolation=isolation,
            idempotent=idempotent,
            parameters_model=parameters_model or _parameters_model(function),
            description=(inspect.getdoc(function) or "").partition("\n")[0],
        )
        self._handlers[kind] = handler
        return handler

    def include(self, other: HandlerRegistry) -> None:
        """Take over the handlers of another registry."""
        for handler in other:
            if handler.kind in self._handlers:
                raise ValueError(f"kind {handler.kind!r} is registered twice; give one of the handlers another kind")
            self._handlers[handler.kind] = handler
        for step_type, step_handler in other.step_handlers.items():
            self.register_step(step_type, step_handler)

    def register_step(self, step_type: str, handler: StepExecutor) -> None:
        """Let the handler execute the steps of that type in durable plans (kind `steps`); a type is registered once."""
        if step_type in self._step_handlers:
            raise ValueError(f"step type {step_type!r} is registered twice; give one of the handlers another type")
        if isinstance(handler, type) or not callable(getattr(handler, "execute", None)):
            problem = f"the handler of step type {step_type!r} must be an object with execute(step, context)"
            raise ValueError(problem)  # noqa: TRY004 - as whatever else cannot be registered
        self._step_handlers[step_type] = handler

    @property
    def step_handlers(self) -> Mapping[str, StepExecutor]:
        """The handlers of steps, by step type."""
        return MappingProxyType(self._step_handlers)

    def get(self, kind: str) -> Handler:
        """The handler of that kind.

        Raises:
            UnknownKindError: no handler of that kind is registered in this process.
        """
        try:
            return self._handlers[kind]
        except KeyError:
            raise UnknownKindError(kind, self._handlers) from None

    def __contains__(self, kind: object) -> bool:
        return kind in self._handlers

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    @property
    def kinds(self) -> list[str]:
        """Every registered kind, sorted."""
        return sorted(self._handlers)

    def load(self, modules: Iterable[str]) -> None:
        """Import modules and installed entry points, and let each register its handlers.

        A module registers through a function `register(registry)`.

        Raises:
            SettingsError: a module cannot be imported, has no such function, or registers what cannot be registered.
        """
        problems = [problem for module in modules if (problem := self._load_module(module))]
        for entry in entry_points(group=ENTRY_POINT_GROUP):
            entry.load()(self)
        if problems:
            raise SettingsError(problems)

    def _load_module(self, name: str) -> str | None:
        named = f"EXECUTION_HANDLERS names {name!r}, which"
        try:
            module = importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - importing runs the module, which may raise anything
            return f"{named} cannot be imported: {type(error).__name__}: {error}"
        register = getattr(module, "register", None)
        if not callable(register):
            return f"{named} has no function `register(registry)`"
        try:
            register(self)
        except ValueError as error:
            return f"{named} cannot be registered: {error}"
        return None


def _parameters_model(function: Callable[..., Any]) -> type[BaseModel] | None:
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    if len(names) != 2:
        raise ValueError(f"handler {function.__qualname__} must take exactly (context, parameters)")
    annotation = get_type_hints(function).get(names[1])
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
