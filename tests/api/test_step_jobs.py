"""Jobs of steps over HTTP: submitting, looking at steps, evidence, keys."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from execution.api.step_models import StepJobDocument
from execution.domain.execution import JsonObject
from execution.service import ExecutionService
from execution.steps import verify_bundle
from tests.support.over_http import check_problem
from tests.support.service import ended, running_worker

PLAN: JsonObject = {
    "contract_id": "01890000-0000-7000-8000-00000000000c",
    "steps": [
        {"id": "on", "step_type": "capability_enable", "target": "search", "weight": 3},
        {"step_type": "noop", "parameters": {"n": 1}},
    ],
}


async def submitted(api: httpx.AsyncClient, plan: JsonObject | None = None, *, key: str | None = None) -> Any:
    answer = await api.post("/v1/step-jobs", json=plan or PLAN, headers={"idempotency-key": key} if key else None)
    assert answer.status_code == 202, answer.text
    return answer


async def test_a_job_from_its_plan_to_its_evidence(api: httpx.AsyncClient, service: ExecutionService) -> None:
    answer = await submitted(api)
    job = answer.json()
    StepJobDocument.model_validate_json(answer.content)
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/step-jobs/{job['id']}"
    assert answer.headers["etag"] == f'"{job["version"]}"'
    assert [step["status"] for step in job["steps"]] == ["PENDING", "PENDING"]
    async with running_worker(service):
        await ended(service, UUID(job["id"]))
    found = await api.get(job["links"]["self"])
    StepJobDocument.model_validate_json(found.content)
    assert found.json()["state"] == "COMPLETED", found.text
    first = found.json()["steps"][0]
    assert (first["id"], first["status"], first["attempt"]) == ("on", "COMPLETED", 1)
    assert first["output"] == {"capability": "search", "enabled": True, "changed": True}
    bundle = await api.get(job["links"]["evidence"])
    verified = verify_bundle(bundle.content)
    assert (verified.final_status, verified.steps_executed) == ("COMPLETED", 2)
    assert bundle.json()["job"]["contract_id"] == PLAN["contract_id"]
    assert bundle.json()["steps"][0]["health_before"]["status"] in {"ok", "degraded", "failed", "unknown"}


async def test_the_job_is_an_execution(api: httpx.AsyncClient) -> None:
    job = (await submitted(api, PLAN | {"task_id": "T-1", "priority": 3})).json()
    execution = (await api.get(job["links"]["execution"])).json()
    assert (execution["kind"], execution["task_id"], execution["priority"]) == ("steps", "T-1", 3)
    assert execution["parameters"] == PLAN
    cancelled = await api.post(f"/v1/executions/{job['id']}/cancel")
    assert cancelled.json()["state"] == "CANCELLED"
    verified = verify_bundle((await api.get(job["links"]["evidence"])).content)
    assert (verified.final_status, verified.steps_executed) == ("CANCELLED", 0)


async def test_a_plan_under_a_key_is_submitted_once(api: httpx.AsyncClient) -> None:
    first = await submitted(api, key="one")
    again = await submitted(api, key="one")
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    check_problem(
        await api.post("/v1/step-jobs", json={"steps": PLAN["steps"][:1]}, headers={"idempotency-key": "one"}),
        422,
        "idempotency_key_reused",
    )


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        ({"steps": []}, "invalid_fields"),
        ({"steps": [{"step_type": "noop", "colour": "red"}]}, "invalid_fields"),
        ({"steps": [{"step_type": "dance"}]}, "invalid_document"),
        ({"steps": [{"step_type": "noop", "id": "a"}, {"step_type": "noop", "id": "a"}]}, "invalid_fields"),
    ],
)
async def test_a_bad_plan_is_refused(api: httpx.AsyncClient, plan: JsonObject, code: str) -> None:
    check_problem(await api.post("/v1/step-jobs", json=plan), 422, code)
    assert (await api.get("/v1/executions")).json()["items"] == []


async def test_what_is_no_job_and_what_has_not_ended(api: httpx.AsyncClient, service: ExecutionService) -> None:
    other = await service.create_execution("noop")
    check_problem(await api.get(f"/v1/step-jobs/{other.id}"), 409, "not_a_step_job")
    check_problem(await api.get(f"/v1/step-jobs/{other.id}/evidence"), 409, "not_a_step_job")
    job = (await submitted(api)).json()
    document = check_problem(await api.get(job["links"]["evidence"]), 409, "evidence_not_ready")
    assert document["state"] == "PENDING"


async def test_steps_of_a_job_may_only_change_the_capabilities_of_its_tenant(
    service: ExecutionService,
) -> None:
    changed = []
    async with running_worker(service):
        for tenant in ("one", "other"):
            view = service.for_tenant(tenant)
            execution = await view.create_execution("steps", PLAN)
            await ended(view, execution.id)
            changed.append(execution.id)
    facts = [
        item.data["data"]["output"]["changed"]
        for tenant, job_id in zip(("one", "other"), changed, strict=True)
        for item in await service.for_tenant(tenant).history(job_id)
        if item.data.get("name") == "step.ended" and item.data["data"]["step_index"] == 0
    ]
    assert facts == [True, True]
