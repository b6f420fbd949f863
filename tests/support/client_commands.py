"""The commands a client may send on an execution, each with how to bring one to where it is accepted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from tests.support.given import BOOM

S = ExecutionState
Send = Callable[..., Awaitable[Execution]]


@dataclass(frozen=True)
class ClientCommand:
    """One command of the facade, sent from outside: no worker is needed."""

    name: str
    way: Sequence[ExecutionState]
    """The states to bring a CREATED execution into, in order, so that it accepts the command."""
    _send: Send

    async def prepare(self, service: ExecutionService, execution_id: UUID | None = None) -> Execution:
        """A new execution that accepts the command."""
        execution = await service.create_execution("noop", id=execution_id, start=False)
        for state in self.way:
            execution = await service.state_manager.change_state(execution.id, state)
        return execution

    async def send(self, service: ExecutionService, execution_id: UUID, **options: Any) -> Execution:
        """Send it; `options` are `CommandOptions`."""
        return await self._send(service, execution_id, **options)


CLIENT_COMMANDS = (
    ClientCommand("start", (), ExecutionService.start_execution),
    ClientCommand("pause", (S.PENDING,), ExecutionService.pause_execution),
    ClientCommand("resume", (S.PENDING, S.PAUSED), ExecutionService.resume_execution),
    ClientCommand("cancel", (S.PENDING,), ExecutionService.cancel_execution),
    ClientCommand("retry", (S.PENDING, S.CANCELLED), ExecutionService.retry_execution),
    ClientCommand(
        "report_progress",
        (S.PENDING, S.RUNNING),
        lambda service, one, **options: service.report_progress(one, 40, "so far", {"page": 4}, **options),
    ),
    ClientCommand(
        "submit_result",
        (S.PENDING, S.RUNNING),
        lambda service, one, **options: service.submit_result(one, error=BOOM, **options),
    ),
)
"""All but `create`. None of them leads to an end that nothing can follow."""
