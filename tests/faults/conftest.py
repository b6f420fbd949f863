"""What the faults have in common: a ledger outside the database, a gate, and clients that do not give up."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest

from execution.domain.execution import Execution
from execution.embedded import EmbeddedPostgres
from execution.errors import ExecutionServiceError, OutcomeUnknownError
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.database import renew
from tests.support.plan_worker_handlers import PLAN_HANDLERS, StepLedger
from tests.support.service import PATIENCE, short_settings
from tests.support.waiting import eventually
from tests.support.worker_process import FAULT_HANDLERS

T = TypeVar("T")


class Ledger:
    """What the handlers did, as they wrote it down themselves."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ledger"
        self.gate = folder / "gate"
        self.later_gate = folder / "later gate"
        self.gated: dict[str, Any] = {"ledger": str(self.file), "gate": str(self.gate)}
        self.gated_again = self.gated | {"later_gate": str(self.later_gate)}
        """Each attempt after the first waits at a gate of its own."""
        self.at_once: dict[str, Any] = {"ledger": str(self.file)}

    def open_gate(self) -> None:
        self.gate.touch()

    def open_later_gate(self) -> None:
        self.later_gate.touch()

    def runs(self) -> Counter[str]:
        """How often each execution was run."""
        return Counter(execution_id for execution_id, _, _ in self._lines())

    def processes(self) -> set[int]:
        """Where they were run."""
        return {int(pid) for _, _, pid in self._lines()}

    async def tells_of(self, execution_id: UUID, attempt: int) -> None:
        """Until this attempt has begun."""
        wanted = (str(execution_id), str(attempt))
        await eventually(
            lambda: any((one, number) == wanted for one, number, _ in self._lines()),
            within=PATIENCE,
            what=f"attempt {attempt} has begun",
        )

    async def holds(self, count: int) -> None:
        """Until so many runs have begun."""
        await eventually(lambda: self.runs().total() >= count, within=PATIENCE, what=f"{count} runs have begun")

    def _lines(self) -> list[list[str]]:
        return [line.split() for line in self.file.read_text().splitlines()] if self.file.exists() else []


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[ExecutionService]:
    """A service that submits and looks, and runs nothing."""
    handlers = f"{FAULT_HANDLERS},{PLAN_HANDLERS}"
    async with open_service(short_settings(database_url, handlers=handlers)) as service:
        yield service


@pytest.fixture
def step_ledger(tmp_path: Path) -> StepLedger:
    return StepLedger(tmp_path / "steps")


@pytest.fixture(scope="session")
def durable_folder(run_folder: Path) -> Path:
    """Where `own_server` has its data: to make it takes longer than most of its tests."""
    return Path(tempfile.mkdtemp(dir=run_folder))


@pytest.fixture
async def own_server(durable_folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Of this test alone, with nothing in it, and as durable as in production: what is acknowledged must survive the
    crash."""
    async with EmbeddedPostgres(durable_folder) as server:
        await renew(server.url, durable_folder / "template.lock")
        yield server


async def insisting(ask: Callable[[], Awaitable[T]], *, within: float = 30.0) -> T:
    """As a patient client does it: ask again while the answer is that a repetition may help."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await ask()
            except ExecutionServiceError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(0)


async def submitted(
    service: ExecutionService, kind: str, parameters: dict[str, Any], execution_id: UUID
) -> UUID | None:
    """The id once its submission is acknowledged; None if nobody knows."""
    try:
        await service.create_execution(kind, parameters, id=execution_id)
    except OutcomeUnknownError:
        return None
    return execution_id


async def ended_at_last(service: ExecutionService, execution_id: UUID) -> Execution:
    """The execution once it has ended, however often the database was away meanwhile."""
    return await insisting(lambda: service.wait(execution_id, PATIENCE))
