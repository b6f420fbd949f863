"""Kind `noop`: nothing at all, or some time and some progress reports."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from execution.domain.execution import JsonObject
from execution.errors import InvalidDocumentError
from execution.handlers import TaskContext

SLICE_SECONDS = 0.1
"""A pause is obeyed within this time."""


class Pace(Struct, frozen=True, forbid_unknown_fields=True):
    """How long to last, and how often to report."""

    progress_reports: Annotated[int, Meta(ge=0, le=1000)] = 0
    seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.0


# The benchmark runs this handler: a pydantic model, as users have it, would be a good part of what it measures.
async def noop(context: TaskContext, parameters: JsonObject) -> JsonObject:
    """Do nothing, or last some `seconds` and make some `progress_reports`."""
    if parameters:
        await _keep(context, _pace(parameters))
    return {}


def _pace(parameters: JsonObject) -> Pace:
    try:
        return msgspec.convert(parameters, Pace)
    except msgspec.ValidationError as error:
        raise InvalidDocumentError("parameters of 'noop'", str(error)) from None


async def _keep(context: TaskContext, pace: Pace) -> None:
    parts = max(1, pace.progress_reports)
    for part in range(1, parts + 1):
        await (_last(context, pace.seconds / parts) if pace.seconds else context.pause_point())
        if pace.progress_reports:
            context.progress(100 * part / parts, f"{part} of {parts}")


async def _last(context: TaskContext, seconds: float) -> None:
    """Let that much time pass, not counting the time spent paused."""
    clock = asyncio.get_running_loop().time
    await context.pause_point()
    while seconds > 0:
        started = clock()
        await asyncio.sleep(min(seconds, SLICE_SECONDS))
        seconds -= clock() - started
        await context.pause_point()
