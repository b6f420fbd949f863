"""Kind `demo.letter`: a side effect that can be counted, in a handler that must not run twice.

Loaded by `EXECUTION_HANDLERS=execution.demo.handlers`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from execution.domain.execution import JsonObject
from execution.handlers import HandlerRegistry, TaskContext


class Letter(BaseModel):
    """Which letter box, and how long the way home takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    box: Path
    seconds: float = Field(default=0, ge=0, le=3600)


async def send_letter(context: TaskContext, parameters: Letter) -> JsonObject:
    """Append one line with the execution's id to a file, then last some seconds."""
    with parameters.box.open("a") as box:
        box.write(f"{context.idempotency_key}\n")
    context.progress(50, "the letter is in the box")
    await asyncio.sleep(parameters.seconds)
    return {"sent": True}


def register(registry: HandlerRegistry) -> None:
    """Not idempotent: a second run would send a second letter."""
    registry.register("demo.letter", send_letter)
