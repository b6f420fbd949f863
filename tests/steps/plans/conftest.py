"""Plans carried out by a worker in this process, with the handlers of `tests/support/plan_handlers.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from execution.handlers import HandlerRegistry
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.plan_handlers import Stage
from tests.support.service import running_worker, short_settings


@pytest.fixture
async def stage() -> Stage:
    return Stage()


@pytest.fixture
def registry(stage: Stage) -> HandlerRegistry:
    registry = HandlerRegistry()
    stage.register(registry)
    return registry


@pytest.fixture
def changes() -> dict[str, float]:
    """Settings that differ; tests override it."""
    return {}


@pytest.fixture
async def idle(
    database_url: str, registry: HandlerRegistry, tmp_path: Path, changes: dict[str, float]
) -> AsyncIterator[ExecutionService]:
    """A service without a worker."""
    async with open_service(short_settings(database_url, data_dir=tmp_path, **changes), registry=registry) as service:
        yield service


@pytest.fixture
async def service(idle: ExecutionService) -> AsyncIterator[ExecutionService]:
    """The same with one."""
    async with running_worker(idle):
        yield idle
