"""A service of the test's own, without a worker: coordinated jobs are executed by whoever delivers them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.service import short_settings


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[ExecutionService]:
    async with open_service(short_settings(database_url)) as service:
        yield service
