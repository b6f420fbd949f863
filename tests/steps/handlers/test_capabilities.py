"""`capability_enable` and `capability_disable`: the state and every change of it, on real rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from execution.errors import DatabaseUnavailableError, ServiceClosedError
from execution.repository.capabilities import Capability, CapabilityChange, CapabilityStore
from execution.repository.database import Database
from execution.settings import Settings
from execution.steps import JobExecutor, JobStep, StepStatus, production_handlers
from execution.steps.handlers import capability_handlers
from execution.steps.handlers.capabilities import CapabilityHandler
from execution.steps.handlers.refusals import InvalidStepError
from tests.support.cutting_proxy import cutting_proxy
from tests.support.step_calls import CONTRACT, JOB, executed
from tests.support.stored import AnyConnection, waiting_sessions
from tests.support.waiting import eventually


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        yield database


@pytest.fixture
def store(database: Database) -> CapabilityStore:
    return CapabilityStore(database)


@pytest.fixture
def not_started() -> CapabilityStore:
    """A store whose database nobody has started: whatever reaches it fails."""
    return CapabilityStore(Database("postgresql:///nowhere"))


def enabling(store: CapabilityStore, tenant_id: str = "acme") -> CapabilityHandler:
    return CapabilityHandler(store, tenant_id, enabled=True)


def disabling(store: CapabilityStore, tenant_id: str = "acme") -> CapabilityHandler:
    return CapabilityHandler(store, tenant_id, enabled=False)


def change(*, enabled: bool, job_id: UUID = JOB) -> CapabilityChange:
    return CapabilityChange(
        tenant_id="acme", name="export", enabled=enabled, changed_by="tester", job_id=job_id, contract_id=CONTRACT
    )


async def changes_of(store: CapabilityStore, name: str = "export") -> list[tuple[int, bool]]:
    return [(one.version, one.enabled) for one in await store.changes("acme", name)]


async def test_a_change_is_made_and_recorded_with_its_job_and_contract(store: CapabilityStore) -> None:
    assert await store.read("acme", "export") is None
    output = await executed(enabling(store), "export")
    assert output.success
    assert output.output == {"capability": "export", "enabled": True, "changed": True}
    now = await store.read("acme", "export")
    assert now is not None
    assert now == Capability(
        tenant_id="acme",
        name="export",
        enabled=True,
        version=1,
        changed_by="tester",
        changed_at=now.changed_at,
        job_id=JOB,
        contract_id=CONTRACT,
    )
    assert await store.changes("acme", "export") == [now]

    again = await executed(enabling(store), "export")
    assert again.output == {"capability": "export", "enabled": True, "changed": False}
    assert await store.read("acme", "export") == now
    assert await changes_of(store) == [(1, True)], "what it is already is no change"


async def test_changes_follow_each_other_each_tenants_its_own(store: CapabilityStore) -> None:
    for handler in (disabling(store), enabling(store), enabling(store), disabling(store)):
        assert (await executed(handler, "export")).success
    assert await changes_of(store) == [(3, False), (2, True), (1, False)], "also what nobody had enabled is disabled"
    latest, *_ = await store.changes("acme", "export", limit=1)
    assert await store.read("acme", "export") == latest
    assert await store.read("other", "export") is None
    await executed(enabling(store, "other"), "export")
    assert await changes_of(store) == [(3, False), (2, True), (1, False)]


async def test_of_many_who_want_the_same_one_changes_it(store: CapabilityStore) -> None:
    wanted = [change(enabled=True, job_id=uuid4()) for _ in range(20)]
    made = [one for one in await asyncio.gather(*map(store.apply, wanted)) if one is not None]
    assert len(made) == 1
    assert await store.read("acme", "export") == made[0]
    assert await changes_of(store) == [(1, True)]
    await check_changes_of_many(store)


async def check_changes_of_many(store: CapabilityStore) -> None:
    """Whatever many want, the changes are numbered, and each is the opposite of the one before."""
    (first,) = await store.changes("acme", "export")
    wanted = [change(enabled=number % 2 == 0) for number in range(40)]
    made = [one for one in await asyncio.gather(*map(store.apply, wanted)) if one is not None]
    recorded = await changes_of(store)
    assert sorted((one.version, one.enabled) for one in [first, *made]) == recorded[::-1]
    assert [version for version, _ in recorded] == list(range(len(recorded), 0, -1))
    assert all(one != other for (_, one), (_, other) in pairwise(recorded))
    latest = await store.read("acme", "export")
    assert latest is not None
    assert (latest.version, latest.enabled) == recorded[0]


async def test_both_are_written_or_neither(store: CapabilityStore, sql: AnyConnection) -> None:
    await sql.execute("ALTER TABLE capability_changes ADD CONSTRAINT nothing_goes CHECK (version < 2)")
    assert await store.apply(change(enabled=True)) is not None
    with pytest.raises(Exception, match="nothing_goes"):
        await store.apply(change(enabled=False))
    now = await store.read("acme", "export")
    assert now is not None
    assert (now.enabled, now.version) == (True, 1)


async def test_cancelled_it_is_changed_all_the_same(store: CapabilityStore, sql: AnyConnection) -> None:
    await executed(disabling(store), "export")
    async with sql.transaction():
        await sql.execute("SELECT FROM capabilities FOR UPDATE")
        running = asyncio.create_task(executed(enabling(store), "export"))
        await eventually(lambda: waiting_sessions(sql), within=5, what="the change waits for the row")
        running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await changes_of(store) == [(2, True), (1, False)]


@pytest.mark.parametrize(
    ("name", "parameters"), [("", {}), ("x" * 201, {}), ("a\x00b", {}), ("export", {"tenant_id": "other"})]
)
async def test_what_is_no_capability_does_not_get_as_far_as_the_database(
    not_started: CapabilityStore, name: str, parameters: dict[str, Any]
) -> None:
    with pytest.raises(InvalidStepError):
        await executed(enabling(not_started), name, **parameters)
    with pytest.raises(ServiceClosedError):
        await executed(enabling(not_started), "export")


async def test_without_a_database(database_url: str, cluster_folder: Path) -> None:
    async with (
        cutting_proxy(database_url, cluster_folder) as (proxy, url),
        Database(url, connect_timeout=1.0, notify=False) as database,
    ):
        store = CapabilityStore(database)
        await executed(enabling(store), "export")
        proxy.close_door()
        with pytest.raises(DatabaseUnavailableError):
            await executed(disabling(store), "export")


class TestInTheMachine:
    async def test_a_job_of_both(self, store: CapabilityStore) -> None:
        handlers = production_handlers(Settings(tenant_id="acme"), store, loop=asyncio.get_running_loop())
        executor = JobExecutor(handlers)
        steps = [
            JobStep(step_index=0, step_type="capability_enable", target="export"),
            JobStep(step_index=1, step_type="capability_disable", target="import"),
        ]
        result = await asyncio.to_thread(executor.execute_job, JOB, CONTRACT, steps, None, "alice")
        assert [one.status for one in result.step_results] == [StepStatus.COMPLETED] * 2
        assert [(one.handler.name, one.handler.idempotent) for one in result.step_results if one.handler] == [
            ("capability_enable", True),
            ("capability_disable", True),
        ]
        now = await store.read("acme", "import")
        assert now is not None
        assert (now.enabled, now.changed_by, now.job_id, now.contract_id) == (False, "alice", JOB, CONTRACT)

        on_the_loop_itself = executor.execute_job(JOB, CONTRACT, steps)
        assert "asyncio.to_thread" in str(on_the_loop_itself.step_results[0].error)

    def test_without_a_store_there_are_none(self) -> None:
        assert set(production_handlers(Settings())) == {"shell.command", "http.request", "files.write_atomic"}

    def test_each_goes_by_its_step_type(self, not_started: CapabilityStore) -> None:
        handlers = capability_handlers(not_started, "acme")
        assert [(name, one.name) for name, one in handlers.items()] == [
            ("capability_enable", "capability_enable"),
            ("capability_disable", "capability_disable"),
        ]
