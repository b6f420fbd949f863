"""One execution's log as it is read back."""

from __future__ import annotations

import pytest

from execution.domain.commands import Cancel, Finish, Pause, Resume, Retry
from execution.domain.events import EventType
from execution.domain.outcome import Succeeded
from execution.domain.state import ExecutionState
from execution.ids import new_id
from execution.repository import repository as repository_module
from execution.repository.repository import ExecutionRepository
from tests.support import given
from tests.support.given import as_read, at
from tests.support.stored import carry_out, store_log, submit

S = ExecutionState


async def test_events_come_back_as_they_were_decided(repository: ExecutionRepository) -> None:
    log = given.asked_to_pause(parameters={"ü": [1, None]})
    log.do(Finish(outcome=Succeeded(result={"a": 1.5})), at(3.25), actor="worker:1")
    execution = await store_log(repository, log)
    items = await repository.get_history(execution.id)
    assert [item.to_event() for item in items] == [as_read(event) for event in log.events]
    assert {item.execution_id for item in items} == {execution.id}
    assert [item.is_final for item in items] == [False] * (len(items) - 1) + [True]


async def test_an_entry_is_one_json_object(repository: ExecutionRepository) -> None:
    execution = await store_log(repository, given.created())
    (item,) = await repository.get_history(execution.id)
    assert item.to_json() == {
        "execution_id": str(execution.id),
        "version": 1,
        "type": EventType.STATE_CHANGED,
        "occurred_at": "2025-06-01T12:00:00+00:00",
        "actor": None,
        "data": as_read(given.created(id=execution.id).events[0]).data,
    }


async def test_after_a_version_up_to_a_limit(repository: ExecutionRepository) -> None:
    execution = await store_log(repository, given.completed())
    assert [item.version for item in await repository.get_history(execution.id, after_version=2)] == [3, 4, 5]
    assert [item.version for item in await repository.get_history(execution.id, after_version=1, limit=2)] == [2, 3]
    assert await repository.get_history(execution.id, after_version=5) == []
    assert await repository.get_history(new_id()) == []


async def test_a_read_is_bounded(repository: ExecutionRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = await store_log(repository, given.completed())
    monkeypatch.setattr(repository_module, "MAX_HISTORY", 2)
    assert len(await repository.get_history(execution.id, limit=10**9)) == 2
    assert len(await repository.get_state_history(execution.id, limit=10**9)) == 2


async def test_several_histories_at_once(repository: ExecutionRepository) -> None:
    first, second, third = [await store_log(repository, given.completed()) for _ in range(3)]
    items = await repository.get_histories({first.id: 3, second.id: 5, third.id: 0, new_id(): 0}, limit_each=3)
    versions = {
        one.id: [item.version for item in items if item.execution_id == one.id] for one in (first, second, third)
    }
    assert versions == {first.id: [4, 5], second.id: [], third.id: [1, 2, 3]}
    assert len(items) == 5


async def test_changes_of_state_are_newest_first(repository: ExecutionRepository) -> None:
    execution = await submit(repository)
    for command in (Pause(reason="lunch"), Resume(), Cancel(reason="not needed"), Retry()):
        execution = await carry_out(repository, execution, command)
    items = await repository.get_state_history(execution.id)
    assert [(item.previous_state, item.new_state, item.reason) for item in items] == [
        (S.CANCELLED, S.PENDING, "retried"),
        (S.PENDING, S.CANCELLED, "not needed"),
        (S.PAUSED, S.PENDING, "resumed"),
        (S.PENDING, S.PAUSED, "lunch"),
        (S.CREATED, S.PENDING, None),
        (None, S.CREATED, None),
    ]
    assert [item.version for item in items] == [7, 5, 4, 3, 2, 1]
    assert await repository.get_state_history(execution.id, limit=2) == items[:2]
    assert await repository.get_state_history(new_id()) == []
