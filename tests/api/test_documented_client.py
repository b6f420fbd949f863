"""The client that the documentation shows does what it says there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution.api.server import HttpServer
from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from tests.support.service import PATIENCE

DOCUMENT = Path(__file__).parents[2] / "docs" / "http.md"
Follow = Callable[[str], Iterator[tuple[str, str, str]]]


def documented_client() -> Follow:
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "follow" in code]
    names: dict[str, Any] = {}
    exec(compile(code, str(DOCUMENT), "exec"), names)
    follow: Follow = names["follow"]
    return follow


@pytest.fixture
def changes() -> dict[str, float]:
    return {"stream_lifetime_seconds": 0.1}


async def test_it_misses_nothing_however_often_it_is_cut_off(service: ExecutionService, live: HttpServer) -> None:
    execution = await service.create_execution("noop")
    url = f"{live.url}/v1/executions/{execution.id}/events"
    following = asyncio.create_task(asyncio.to_thread(lambda: list(documented_client()(url))))
    await service.state_manager.change_state(execution.id, ExecutionState.RUNNING)
    for percentage in range(1, 11):
        await asyncio.sleep(0.05)
        await service.report_progress(execution.id, percentage)
    await service.submit_result(execution.id, {"answer": 42})
    async with asyncio.timeout(PATIENCE):
        events = await following
    history = [item.to_json() for item in await service.history(execution.id)]
    assert [json.loads(data) for _, _, data in events] == history
    assert [(one, kind) for one, kind, _ in events] == [(str(item["version"]), item["type"]) for item in history]
