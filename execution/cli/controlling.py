"""`execution start`, `pause`, `resume`, `cancel`, `retry` and `delete`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from rich.text import Text

from execution.cli.connection import open_client
from execution.cli.output import answer
from execution.cli.views import state_text
from execution.domain.execution import Execution
from execution.presentation import execution_to_json
from execution.service import ExecutionService


async def control_one(
    name: str, execution_id: UUID, *, reason: str | None, expected_version: int | None, as_json: bool
) -> None:
    """Carry out one of the commands, and say where the execution stands after it."""
    async with open_client() as service:
        command = _commands(service)[name]
        execution = await command(execution_id, reason=reason, expected_version=expected_version)
    answer(execution_to_json(execution), _standing(execution), as_json=as_json)


async def delete_one(execution_id: UUID, *, as_json: bool) -> None:
    """Delete an ended execution."""
    async with open_client() as service:
        await service.delete_execution(execution_id)
    answer({"id": str(execution_id), "deleted": True}, f"{execution_id}  deleted", as_json=as_json)


def _commands(service: ExecutionService) -> dict[str, Callable[..., Awaitable[Execution]]]:
    return {
        "start": service.start_execution,
        "pause": service.pause_execution,
        "resume": service.resume_execution,
        "cancel": service.cancel_execution,
        "retry": service.retry_execution,
    }


def _standing(execution: Execution) -> Text:
    wish = "  (it pauses at its next pause point)" if execution.pause_requested else ""
    return Text.assemble(f"{execution.id}  ", state_text(execution.state), f"  version {execution.version}{wish}")
