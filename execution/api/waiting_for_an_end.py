"""An answer that waits for the end of its execution, as its caller prefers; but no longer than the door is open."""

from __future__ import annotations

import asyncio

from execution.api.door import Door
from execution.domain.execution import Execution
from execution.errors import ServiceClosedError, WaitTimeoutError
from execution.service import ExecutionService


async def waited_for(execution: Execution, seconds: int, service: ExecutionService, door: Door) -> Execution:
    """The execution once it has ended, or as it is when the time is over or the door closes."""
    ending = asyncio.create_task(service.wait(execution.id, seconds), name="wait for an end")
    closing = asyncio.create_task(door.closing.wait(), name="wait for the door")
    try:
        await asyncio.wait([ending, closing], return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            return ending.result()
    except (WaitTimeoutError, ServiceClosedError):
        pass
    finally:
        ending.cancel()
        closing.cancel()
    return await service.get_execution(execution.id)
