"""Scopes and the risk gate: what is refused and why, and that of many at once no more pass than uses are left."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from execution.domain.state import ExecutionState
from execution.errors import InvalidDocumentError
from execution.ids import new_id
from execution.repository.scopes import Scope
from execution.service import ExecutionService
from execution.steps import (
    CoordinatedJobExecutor,
    ExecutionCoordinator,
    JobStatus,
    JobStep,
    RiskClass,
    RiskTable,
    ScopeExpiredError,
    ScopeNotFoundError,
    ScopeOfOtherActionError,
    ScopeOfOtherIncidentError,
    ScopeOfOtherTenantError,
    ScopeRefusedError,
    ScopeRequiredError,
    ScopeRiskTooLowError,
    ScopeUsedUpError,
    create_coordinated_executor,
)
from execution.wiring import open_service
from tests.support.service import short_settings
from tests.support.stored import AnyConnection, assert_row_is_fold

STEPS = [JobStep(0, "noop")]
TENANT, INCIDENT, ACTION = "mine", "incident-7", "restart_service"
EXPIRE = "UPDATE execution_scopes SET created_at = now() - interval '1 hour', expires_at = now() - interval '1 second'"


@pytest.fixture
def executor(service: ExecutionService) -> CoordinatedJobExecutor:
    coordinator = ExecutionCoordinator(service, risks={"look_around": RiskClass.LOW})
    return create_coordinated_executor(coordinator=coordinator)


async def granted(executor: CoordinatedJobExecutor, *, uses: int = 1, **changes: Any) -> Scope:
    what: dict[str, Any] = {"tenant_id": TENANT, "incident_id": INCIDENT, "action": ACTION, "allowed_uses": uses}
    return await executor.coordinator.create_scope(**what | changes)


async def run(executor: CoordinatedJobExecutor, scope_id: UUID | None = None, **changes: Any) -> dict[str, Any]:
    """The `scope_info` of a job that passed."""
    what: dict[str, Any] = {
        "tenant_id": TENANT,
        "incident_id": INCIDENT,
        "action": ACTION,
        "contract_id": uuid4(),
        "steps": STEPS,
    }
    job_id = changes.pop("job_id", None) or new_id()
    result, scope_info = await executor.execute_scoped_job(job_id, **what | changes, scope_id=scope_id)
    assert result.final_status is JobStatus.COMPLETED
    return scope_info


async def uses_of(sql: AnyConnection, scope: Scope) -> int:
    uses: int = await sql.fetchval("SELECT uses FROM execution_scopes WHERE id = $1", scope.id)
    return uses


class TestRisk:
    def test_what_nobody_has_judged_is_of_high_risk(self) -> None:
        table = RiskTable.with_low(["look_around"])
        assert table.risk_of("look_around") is RiskClass.LOW
        assert table.risk_of("anything else") is RiskClass.HIGH
        assert RiskTable().risk_of("look_around") is RiskClass.HIGH

    async def test_the_settings_name_what_is_low(self, database_url: str) -> None:
        settings = short_settings(database_url, steps_low_risk_actions="look_around,read_metrics")
        async with open_service(settings) as service:
            executor = create_coordinated_executor(service)
            assert (await run(executor, action="read_metrics"))["scope_id"] is None
            with pytest.raises(ScopeRequiredError):
                await run(executor, action="restart")

    def test_a_class_that_does_not_exist(self) -> None:
        with pytest.raises(ValueError, match="medium"):
            RiskTable({"a": "medium"})

    async def test_low_risk_needs_no_scope(self, executor: CoordinatedJobExecutor) -> None:
        assert await run(executor, action="look_around") == {
            "scope_id": None,
            "incident_id": INCIDENT,
            "action": "look_around",
            "risk": "low",
            "uses_left": None,
            "expires_at": None,
            "granted_by": None,
        }

    async def test_a_scope_that_is_named_has_to_hold_all_the_same(self, executor: CoordinatedJobExecutor) -> None:
        with pytest.raises(ScopeNotFoundError):
            await run(executor, uuid4(), action="look_around")


class TestUse:
    async def test_a_named_one(self, executor: CoordinatedJobExecutor, sql: AnyConnection) -> None:
        scope = await granted(executor, uses=2, granted_by="ann")
        first, second = await run(executor, scope.id), await run(executor, scope.id)
        assert (first["uses_left"], second["uses_left"]) == (1, 0)
        assert (first["scope_id"], first["granted_by"], first["risk"]) == (str(scope.id), "ann", "high")
        assert await uses_of(sql, scope) == 2

    async def test_the_one_that_ends_first_is_found(self, executor: CoordinatedJobExecutor) -> None:
        later = await granted(executor, expires_in_seconds=500)
        sooner = await granted(executor, expires_in_seconds=100)
        infos = [await run(executor), await run(executor)]
        assert [one["scope_id"] for one in infos] == [str(sooner.id), str(later.id)]

    @pytest.mark.parametrize("named", [True, False])
    async def test_of_32_at_once_with_3_uses_left_exactly_3_pass(
        self, executor: CoordinatedJobExecutor, sql: AnyConnection, named: bool
    ) -> None:
        scope = await granted(executor, uses=4)
        await run(executor, scope.id)
        scope_id = scope.id if named else None
        answers = await asyncio.gather(*(run(executor, scope_id) for _ in range(32)), return_exceptions=True)
        assert Counter(type(answer) for answer in answers) == {dict: 3, ScopeUsedUpError: 29}
        assert sorted(answer["uses_left"] for answer in answers if isinstance(answer, dict)) == [0, 1, 2]
        assert await uses_of(sql, scope) == 4

    async def test_several_small_ones_are_all_used_up(self, executor: CoordinatedJobExecutor) -> None:
        """Whoever finds that somebody else was faster with one looks for the next."""
        for _ in range(5):
            await granted(executor)
        answers = await asyncio.gather(*(run(executor) for _ in range(12)), return_exceptions=True)
        assert Counter(type(answer) for answer in answers) == {dict: 5, ScopeUsedUpError: 7}

    async def test_a_second_delivery_uses_nothing(self, executor: CoordinatedJobExecutor, sql: AnyConnection) -> None:
        scope = await granted(executor, uses=5)
        job: dict[str, Any] = {"job_id": new_id(), "contract_id": uuid4()}
        first = await run(executor, scope.id, **job)
        assert await run(executor, scope.id, **job) == first
        assert await uses_of(sql, scope) == 1


Prepare = Callable[[CoordinatedJobExecutor, AnyConnection], Any]


async def required(executor: CoordinatedJobExecutor, sql: AnyConnection) -> UUID | None:
    await granted(executor, action="another")
    return None


async def not_found(executor: CoordinatedJobExecutor, sql: AnyConnection) -> UUID:
    return uuid4()


async def of_other_tenant(executor: CoordinatedJobExecutor, sql: AnyConnection) -> UUID:
    return (await granted(executor, tenant_id="theirs")).id


async def of_other_incident(executor: CoordinatedJobExecutor, sql: AnyConnection) -> UUID:
    return (await granted(executor, incident_id="incident-8")).id


async def of_other_action(executor: CoordinatedJobExecutor, sql: AnyConnection) -> UUID:
    return (await granted(executor, action="restart_services")).id


async def risk_too_low(executor: CoordinatedJobExecutor, sql: AnyConnection) -> UUID:
    return (await granted(executor, risk=RiskClass.LOW)).id


async def expired(executor: CoordinatedJobExecutor, sql: AnyConnection) -> UUID:
    scope = await granted(executor)
    await sql.execute(EXPIRE)
    return scope.id


async def expired_and_found(executor: CoordinatedJobExecutor, sql: AnyConnection) -> None:
    await expired(executor, sql)


async def used_up(executor: CoordinatedJobExecutor, sql: AnyConnection) -> UUID:
    scope = await granted(executor)
    await run(executor, scope.id)
    return scope.id


REFUSED = [
    (required, ScopeRequiredError),
    (not_found, ScopeNotFoundError),
    (of_other_tenant, ScopeOfOtherTenantError),
    (of_other_incident, ScopeOfOtherIncidentError),
    (of_other_action, ScopeOfOtherActionError),
    (risk_too_low, ScopeRiskTooLowError),
    (expired, ScopeExpiredError),
    (expired_and_found, ScopeExpiredError),
    (used_up, ScopeUsedUpError),
]


class TestRefusals:
    def test_each_kind_is_tried_here(self) -> None:
        kinds = set(ScopeRefusedError.__subclasses__())
        assert {kind for _, kind in REFUSED} == kinds
        assert len({kind.code for kind in kinds}) == len(kinds)

    @pytest.mark.parametrize(("prepare", "kind"), REFUSED, ids=lambda one: one.__name__)
    async def test_it_is_refused_audited_and_refused_again(
        self,
        executor: CoordinatedJobExecutor,
        service: ExecutionService,
        sql: AnyConnection,
        prepare: Prepare,
        kind: type[ScopeRefusedError],
    ) -> None:
        scope_id = await prepare(executor, sql)
        before = await sql.fetch("SELECT id, uses FROM execution_scopes ORDER BY id")
        job: dict[str, Any] = {"job_id": new_id(), "contract_id": uuid4()}
        with pytest.raises(ScopeRefusedError) as caught:
            await run(executor, scope_id, **job)
        assert type(caught.value) is kind
        assert await sql.fetch("SELECT id, uses FROM execution_scopes ORDER BY id") == before
        await self.check_audit(service.for_tenant(TENANT), job["job_id"], caught.value)
        await sql.execute("UPDATE execution_scopes SET uses = 0, tenant_id = 'mine', incident_id = 'incident-7'")
        with pytest.raises(kind) as again:
            await run(executor, scope_id, **job)
        assert str(again.value) == str(caught.value), "a job is refused once and for all"

    async def test_after_a_retry_the_next_delivery_is_asked_anew(
        self, executor: CoordinatedJobExecutor, service: ExecutionService
    ) -> None:
        job: dict[str, Any] = {"job_id": new_id(), "contract_id": uuid4()}
        with pytest.raises(ScopeRequiredError):
            await run(executor, **job)
        await service.for_tenant(TENANT).retry_execution(job["job_id"], reason="granted since")
        scope = await granted(executor)
        first = await run(executor, **job)
        assert first["scope_id"] == str(scope.id)
        assert await run(executor, **job) == first

    async def check_audit(self, view: ExecutionService, job_id: UUID, refusal: ScopeRefusedError) -> None:
        facts = {
            item.data["name"]: item.data["data"]
            for item in await view.history(job_id)
            if item.type.endswith(".recorded")
        }
        assert list(facts) == ["audit.job_created", "scope.refused", "audit.job_failed"]
        assert (facts["scope.refused"]["code"], facts["scope.refused"]["action"]) == (refusal.code, ACTION)
        after = await assert_row_is_fold(view.repository, job_id)
        assert after.state is ExecutionState.FAILED
        assert after.error == {"type": refusal.code, "message": str(refusal)}
        assert facts["audit.job_failed"] == {"error": after.error}

    async def test_nothing_is_told_of_another_tenants_scope(self, executor: CoordinatedJobExecutor) -> None:
        scope = await granted(executor, tenant_id="theirs", granted_by="their operator", incident_id="their incident")
        with pytest.raises(ScopeOfOtherTenantError) as caught:
            await run(executor, scope.id)
        assert "their" not in str(caught.value)

    @pytest.mark.parametrize(
        "changes",
        [
            {"uses": 0},
            {"uses": True},
            {"uses": 1_000_001},
            {"expires_in_seconds": 0},
            {"expires_in_seconds": float("nan")},
            {"expires_in_seconds": 1e9},
            {"tenant_id": ""},
            {"incident_id": None},
            {"action": "a\x00b"},
            {"action": "a" * 201},
            {"granted_by": "\udcff"},
        ],
        ids=repr,
    )
    async def test_what_cannot_be_granted(
        self, executor: CoordinatedJobExecutor, sql: AnyConnection, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidDocumentError):
            await granted(executor, **changes)
        assert await sql.fetchval("SELECT count(*) FROM execution_scopes") == 0
