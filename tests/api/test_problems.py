"""Problems: documented as they are, one shape for all of them, and nothing in them that is not for clients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from execution.access_errors import ApiKeyNotFoundError, UnauthenticatedError
from execution.api.documented_problems import EXAMPLES
from execution.api.models import Problem
from execution.command_errors import (
    MalformedCommandError,
    StaleCommandError,
    UnknownCommandError,
    UntrustedCommandError,
)
from execution.errors import (
    AgentNotFoundError,
    ConflictError,
    EmbeddedPostgresError,
    ExecutionServiceError,
    InvalidProgressError,
    InvalidRequestError,
    LeaseLost,
    ModelOrchestrationError,
    SettingsError,
    TooManyFactsError,
    WaitTimeoutError,
)
from execution.problems import problem_document, problem_type
from execution.steps.coordination_errors import (
    REFUSALS,
    JobIdReusedError,
    JobInProgressError,
    JobNotRecordedError,
    NoServiceError,
    ScopeRefusedError,
)
from execution.steps.errors import BrokenEvidenceError, InvalidPlanError, StoredOutputError
from tests.support.over_http import check_problem, submitted

GUIDE = Path(__file__).parents[2] / "docs" / "problems.md"
ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| (yes|no) \| (.+) \| .+ \|$", re.MULTILINE)
OF_HANDLERS_AND_THE_COMMAND_LINE = (
    "execution.cli", "execution.builtin", "execution.files_roots", "execution.steps.handlers",
)  # fmt: skip
NEVER_OVER_HTTP = {
    # Branches of the tree, of which only the leaves are raised.
    *(InvalidRequestError, ConflictError, UnauthenticatedError),
    # Of workers and handlers: they end an execution, not a request.
    *(AgentNotFoundError, LeaseLost, ModelOrchestrationError, TooManyFactsError),
    # The request's model refuses the percentage earlier, and a report that goes backwards is not refused.
    InvalidProgressError,
    # Of the command line, of the start, and of a wait that is answered with how far the execution has come.
    *(ApiKeyNotFoundError, SettingsError, EmbeddedPostgresError, WaitTimeoutError),
    # Of commands over Kafka, whose replies and dead letters name them.
    *(MalformedCommandError, UnknownCommandError, StaleCommandError, UntrustedCommandError),
    # Of plans in this process, and of evidence that is checked here.
    *(InvalidPlanError, BrokenEvidenceError, StoredOutputError),
    # Of coordinated jobs, which are delivered in this process.
    *(ScopeRefusedError, *REFUSALS.values(), JobIdReusedError, JobInProgressError, JobNotRecordedError, NoServiceError),
}


def all_errors(root: type[ExecutionServiceError] = ExecutionServiceError) -> Iterator[type[ExecutionServiceError]]:
    """Those of the service, all of which are imported with the app; not the command line's, nor those of handlers."""
    yield root
    for one in root.__subclasses__():
        if not one.__module__.startswith(OF_HANDLERS_AND_THE_COMMAND_LINE):
            yield from all_errors(one)


def test_every_error_that_may_be_an_answer_has_an_example() -> None:
    assert set(all_errors()) == set(EXAMPLES) | NEVER_OVER_HTTP
    assert set(EXAMPLES).isdisjoint(NEVER_OVER_HTTP)


def test_a_code_stands_for_one_error() -> None:
    codes = [one.code for one in EXAMPLES]
    assert sorted(codes) == sorted(set(codes))


def test_the_guide_lists_the_problems_as_they_are() -> None:
    rows = ROW.findall(GUIDE.read_text())
    assert len(rows) == len({code for code, *_ in rows})
    documented = {code: (int(status), retriable == "yes") for code, status, retriable, _ in rows}
    assert documented == {one.code: (one.status, one.retriable) for one in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=lambda one: one.code)
def test_the_guide_names_the_members_of_a_problem(example: ExecutionServiceError) -> None:
    (meaning,) = [when for code, _, _, when in ROW.findall(GUIDE.read_text()) if code == example.code]
    unnamed = [fact for fact in example.facts if f"`{fact}`" not in meaning]
    assert not unnamed


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=lambda one: one.code)
def test_every_problem_has_the_one_shape(example: ExecutionServiceError) -> None:
    document = problem_document(example)
    Problem.model_validate(document)
    assert document["type"] == problem_type(example.code)
    assert not set(example.facts) & {"type", "title", "status", "detail", "code", "retriable", "instance", "request_id"}
    assert all(fact in document for fact in example.facts)
    assert not re.search(r"<\w+\.\w+: ", document["detail"]), "a member of an enum, as only Python writes it"
    assert document["title"].replace("API", "api").lower().split() == example.code.split("_")
    assert "Api" not in document["title"]


class TestOfTheFramework:
    async def test_a_path_that_is_not_served(self, api: httpx.AsyncClient) -> None:
        check_problem(await api.get("/v1/nothing"), 404, "route_not_found")

    async def test_a_method_that_is_not_served(self, api: httpx.AsyncClient) -> None:
        answer = await api.put("/v1/executions")
        check_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, POST"

    async def test_an_id_that_is_none(self, api: httpx.AsyncClient) -> None:
        check_problem(await api.get("/v1/executions/nonsense"), 404, "route_not_found")

    async def test_a_defect_says_nothing_of_itself(self, app: FastAPI) -> None:
        @app.get("/defect")
        async def defect() -> None:
            raise LookupError("the password is hunter2")

        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            answer = await client.get("/defect")
        document = check_problem(answer, 500, "internal")
        assert "hunter2" not in answer.text
        assert document["request_id"] == answer.headers["x-request-id"]


async def test_a_value_that_is_refused_is_not_repeated(api: httpx.AsyncClient) -> None:
    own = (await submitted(api))["links"]["self"]
    for answer in (
        await api.post("/v1/executions", json={"kind": "noop", "priority": "hunter2"}),
        await api.post("/v1/executions", json={"kind": "noop", "parameters": "hunter2"}),
        await api.post(f"{own}/cancel", json={"reason": ["hunter2"]}),
        await api.get("/v1/executions", params={"state": "hunter2"}),
        await api.get("/v1/executions", params={"cursor": "hunter2"}),
    ):
        check_problem(answer, 422, "invalid_fields")
        assert "hunter2" not in answer.text
