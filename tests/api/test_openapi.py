"""The OpenAPI document: complete enough to be relied on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from execution.api import models
from execution.api.app import ROUTERS
from execution.api.documented_problems import EXAMPLES
from execution.api.openapi import DoorApp
from execution.domain.execution import JsonObject
from execution.submission import Submission
from tests.support.over_http import submitted

OF_EVERY_GUARDED = {"401", "403", "422", "429", "431", "500", "503"}
OF_A_BODY = {"400", "408", "413", "415"}
BODIES = [
    *(models.ExecutionDocument, models.ListedExecution, models.ExecutionList, models.HistoryEntry, models.HistoryPage),
    Submission,
]


def document() -> JsonObject:
    app = DoorApp(title="under test")
    for router in ROUTERS:
        app.include_router(router)
    return app.openapi()


def operations(prefix: str = "") -> list[Any]:
    """Method and operation of every path that begins so."""
    return [
        pytest.param(method, operation, id=operation["operationId"])
        for path, methods in document()["paths"].items()
        if path.startswith(prefix)
        for method, operation in methods.items()
    ]


def problems(operation: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    for status, response in operation["responses"].items():
        if "application/problem+json" in response.get("content", {}):
            yield status, response["content"]["application/problem+json"]


async def test_it_is_served(api: httpx.AsyncClient) -> None:
    served = (await api.get("/openapi.json")).json()
    assert served["paths"].keys() == document()["paths"].keys()
    assert served["info"]["version"]


async def test_no_page_that_loads_scripts_from_elsewhere_is(api: httpx.AsyncClient) -> None:
    assert {(await api.get(path)).status_code for path in ("/docs", "/redoc")} == {404}


@pytest.mark.parametrize(("method", "operation"), operations())
def test_an_operation_says_what_it_is(method: str, operation: JsonObject) -> None:
    assert operation["operationId"].replace("_", "").isalpha()
    assert operation["summary"]
    assert operation["description"]
    assert len(operation["tags"]) == 1
    assert all(one["description"] for one in operation.get("parameters", ()) if one["in"] != "path")


def test_operation_ids_are_unique() -> None:
    ids = [one.id for one in operations()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("method", "operation"), operations("/v1"))
def test_a_guarded_operation_documents_what_may_go_wrong(method: str, operation: JsonObject) -> None:
    assert operation["security"] == [{"ApiKey": []}]
    documented = dict(problems(operation))
    assert documented.keys() >= OF_EVERY_GUARDED
    assert documented.keys() >= OF_A_BODY or "requestBody" not in operation
    headers = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "header"}
    assert "Idempotency-Key" in headers or method != "post"
    assert documented.keys() >= {"412", "428"} or "If-Match" not in headers


@pytest.mark.parametrize(("method", "operation"), operations())
def test_every_answer_has_a_description_and_every_problem_an_example(method: str, operation: JsonObject) -> None:
    assert all(response["description"] for response in operation["responses"].values())
    for status, content in problems(operation):
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        examples = [one["value"] for one in content["examples"].values()]
        assert examples
        assert {one["status"] for one in examples} == {int(status)}
        TypeAdapter(list[models.Problem]).validate_python(examples)


def test_nothing_of_the_frameworks_own_errors_is_left() -> None:
    assert "HTTPValidationError" not in str(document())


def test_every_problem_is_documented_somewhere() -> None:
    shown = {code for one in operations() for _, content in problems(one.values[1]) for code in content["examples"]}
    # Of paths and methods that are in no operation.
    assert shown == {one.code for one in EXAMPLES} - {"route_not_found", "method_not_allowed"}


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_examples_are_what_they_are_examples_of(body: Any) -> None:
    (example,) = body.model_json_schema()["examples"]
    body.model_validate(example)


async def test_answers_are_what_is_documented(api: httpx.AsyncClient) -> None:
    execution = await submitted(api, agent_id="a", task_id="t", parameters={"steps": 1})
    models.ExecutionDocument.model_validate(execution)
    assert execution.keys() == models.ExecutionDocument.model_json_schema()["examples"][0].keys()
    for query in ("", "?limit=1", "?page=1"):
        models.ExecutionList.model_validate((await api.get(f"/v1/executions{query}")).json())
    models.HistoryPage.model_validate((await api.get(execution["links"]["history"])).json())
