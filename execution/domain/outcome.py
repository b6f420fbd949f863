"""How a run ended: the value a handler's return or exception is turned into, by a pure function."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from execution.domain.execution import JsonObject
from execution.domain.text import storable

MAX_MESSAGE_LENGTH = 2000
"""Characters of an exception's message that are kept in the log."""


class Succeeded(Struct, frozen=True, kw_only=True, gc=False):
    """The handler returned a result."""

    result: JsonObject


class PartiallySucceeded(Struct, frozen=True, kw_only=True, gc=False):
    """The handler returned a result, and says it is not all of it."""

    result: JsonObject
    error: JsonObject | None = None


class Failed(Struct, frozen=True, kw_only=True, gc=False):
    """The handler raised, or returned what cannot be stored. `error` has `type` and `message`."""

    error: JsonObject


class Cancelled(Struct, frozen=True, kw_only=True, gc=False):
    """The handler stopped because it was asked to."""

    reason: str | None = None


class Interrupted(Struct, frozen=True, kw_only=True, gc=False):
    """The run was cut off from outside (worker died or stopped), so nobody knows how far it came."""

    reason: str


class GivenBack(Struct, frozen=True, kw_only=True, gc=False):
    """The handler stopped where its log says how far it is, so that another worker goes on: no attempt was used up."""

    reason: str


Outcome = Succeeded | PartiallySucceeded | Failed | Cancelled | Interrupted | GivenBack


def reported(result: JsonObject, error: JsonObject | None, *, partial: bool) -> Outcome:
    """How a run ended that somebody outside reports: with part of a result, with an error, or with a result."""
    if partial:
        return PartiallySucceeded(result=result, error=error)
    if error is not None:
        return Failed(error={"type": "failed", "message": ""} | error)
    return Succeeded(result=result)


@dataclass(frozen=True)
class PartialSuccess:
    """Return this from a handler to end `PARTIAL_SUCCESS`: a result, and what is missing from it."""

    result: Any
    missing: str | None = None


class StopRequested(Exception):  # noqa: N818 - a way to end, not an error
    """How a blocking handler obeys a request to stop (`context.raise_if_cancelled()` raises it)."""


class HandedOver(Exception):  # noqa: N818 - a way to end, not an error
    """How a handler leaves the rest to another worker (`context.hand_over_point()` raises it); it says how far."""


class Invocation(Struct, frozen=True, kw_only=True):
    """What invoking a handler gave: a value or an exception, and what was asked of it meanwhile."""

    value: Any = None
    exception: BaseException | None = None
    cancel_requested: bool = False
    timed_out: bool = False
    draining: bool = False


def classify(invocation: Invocation, to_document: Callable[[Any], JsonObject]) -> Outcome:
    """The outcome of an invocation.

    A finished handler counts as what it finished as, even if it was asked to stop. `to_document` turns a returned value
    into a JSON object, or raises what explains why it cannot.
    """
    exception = invocation.exception
    if exception is None:
        return _returned(invocation.value, to_document)
    if invocation.timed_out:
        return Failed(error={"type": "start_to_close_timeout", "message": "the attempt ran past its time limit"})
    if invocation.cancel_requested and _is_stop(exception):
        return Cancelled()
    if isinstance(exception, HandedOver):
        return GivenBack(reason=str(exception))
    if invocation.draining and _is_stop(exception):
        return Interrupted(reason="the worker stopped before the handler ended")
    return Failed(error=describe(exception))


def describe(exception: BaseException) -> JsonObject:
    """`error` of an exception: its type and message, never its traceback (which belongs in the worker's log)."""
    name = type(exception).__name__
    try:
        message = str(exception) or name
    except Exception:  # noqa: BLE001 - a handler's exception class may be broken, and its run still has to end
        message = name
    error_type = getattr(exception, "error_type", None) or name
    return {"type": storable(str(error_type)), "message": storable(message[:MAX_MESSAGE_LENGTH])}


def _returned(value: Any, to_document: Callable[[Any], JsonObject]) -> Outcome:
    try:
        if isinstance(value, PartialSuccess):
            error = {"type": "partial", "message": storable(value.missing)} if value.missing else None
            return PartiallySucceeded(result=to_document(value.result), error=error)
        return Succeeded(result=to_document(value))
    except Exception as unusable:  # noqa: BLE001 - whatever the handler's value raises while serialised is its error
        return Failed(error=describe(unusable))


def _is_stop(exception: BaseException) -> bool:
    """Is this how a handler ends when it obeys a request to stop?"""
    return isinstance(exception, CancelledError | StopRequested)
