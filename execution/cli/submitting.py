"""`execution submit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from execution.cli.connection import open_client
from execution.cli.exit_codes import ExitCode, exit_code_for
from execution.cli.output import answer, hint
from execution.cli.parameters import ConflictingOptionsError, read_parameters, read_retry_policy
from execution.cli.views import execution_view
from execution.cli.watching import await_end
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.presentation import execution_to_json
from execution.repository.diagnosis import Diagnosis
from execution.service import ExecutionService


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What the command line says of a new execution, before it is read."""

    kind: str
    parameters: tuple[str, ...]
    json_parameters: str | None
    retry: str | None
    fields: Mapping[str, Any]

    def read_fields(self) -> dict[str, Any]:
        """The further fields of `create_execution` that were given."""
        given = {name: value for name, value in self.fields.items() if value is not None}
        return given | ({"retry": read_retry_policy(self.retry)} if self.retry is not None else {})


async def submit_one(ticket: Ticket, *, wait: bool, timeout: float | None, as_json: bool) -> int:  # noqa: ASYNC109
    """Submit an execution, and with `wait` see it end."""
    if wait and not ticket.fields["start"]:
        raise ConflictingOptionsError("--wait", "--no-start", "nothing would start it")
    parameters = read_parameters(ticket.parameters, ticket.json_parameters)
    async with open_client() as service:
        execution = await service.create_execution(ticket.kind, parameters, **ticket.read_fields())
        await hint_at_missing_worker(service, execution, as_json=as_json)
        if not wait:
            answer(execution_to_json(execution), str(execution.id), as_json=as_json)
            return ExitCode.OK
        ended = await await_end(service, execution, timeout=timeout, as_json=as_json)
    answer(execution_to_json(ended), execution_view(ended), as_json=as_json)
    return exit_code_for(ended.state)


async def hint_at_missing_worker(service: ExecutionService, execution: Execution, *, as_json: bool) -> None:
    """Say so if nobody is there who would run it."""
    if execution.state is not ExecutionState.PENDING:
        return
    workers = await Diagnosis(service.repository.db).workers()
    if not any(worker.alive and execution.kind in worker.kinds for worker in workers):
        hint(f"no live worker runs {execution.kind!r}; start one with: execution worker", as_json=as_json)
