"""Lists over HTTP: filters, pages by cursor and by number, and that the two do not mix."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from execution.api.paging import MAX_LIMIT
from execution.service import ExecutionService
from tests.support.over_http import check_problem, submitted

MADE = 7


@pytest.fixture
async def newest_first(api: httpx.AsyncClient) -> list[str]:
    """The ids of some executions."""
    return [(await submitted(api, task_id=f"task {number % 2}"))["id"] for number in range(MADE)][::-1]


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["items"]]


async def followed(api: httpx.AsyncClient, url: str) -> list[list[str]]:
    """Every page, found by nothing but the `Link` header."""
    pages = []
    while True:
        answer = await api.get(url)
        pages.append(ids(answer))
        if "link" not in answer.headers:
            return pages
        assert answer.links["next"]["url"] != url
        url = answer.links["next"]["url"]


class TestCursor:
    @pytest.mark.parametrize("limit", [1, 3, MADE - 1, MADE, MADE + 1])
    async def test_the_pages_are_the_list(self, api: httpx.AsyncClient, newest_first: list[str], limit: int) -> None:
        pages = await followed(api, f"/v1/executions?limit={limit}")
        assert [one for page in pages for one in page] == newest_first
        assert len(pages) == -(-MADE // limit), "a page more than there is to see"

    async def test_the_body_says_where_to_go_on_too(self, api: httpx.AsyncClient, newest_first: list[str]) -> None:
        first = await api.get("/v1/executions?limit=4")
        rest = await api.get("/v1/executions", params={"cursor": first.json()["next_cursor"], "limit": 4})
        assert ids(first) + ids(rest) == newest_first
        assert rest.json()["next_cursor"] is None
        assert "total" not in rest.json()

    async def test_what_comes_meanwhile_does_not_shift_the_pages(
        self, api: httpx.AsyncClient, newest_first: list[str]
    ) -> None:
        first = await api.get("/v1/executions?limit=3")
        await submitted(api)
        rest = await api.get(first.links["next"]["url"])
        assert ids(rest) == newest_first[3:6]

    @pytest.mark.parametrize("cursor", ["", "x", "not a cursor", "AAAA", "é", "A" * 22 + "A", "=" * 22, "A" * 101])
    async def test_what_is_no_cursor(self, api: httpx.AsyncClient, cursor: str) -> None:
        answer = await api.get("/v1/executions", params={"cursor": cursor})
        document = check_problem(answer, 422, "invalid_fields")
        assert document["errors"][0]["pointer"] == "#/cursor"

    async def test_filters_go_on_to_the_next_page(self, api: httpx.AsyncClient, newest_first: list[str]) -> None:
        pages = await followed(api, "/v1/executions?task_id=task%200&limit=2")
        assert [one for page in pages for one in page] == newest_first[::2]


class TestNumberedPages:
    async def test_they_have_a_total(self, api: httpx.AsyncClient, newest_first: list[str]) -> None:
        document = (await api.get("/v1/executions?page=2&page_size=3")).json()
        assert [one["id"] for one in document["items"]] == newest_first[3:6]
        assert (document["total"], document["page"], document["page_size"]) == (MADE, 2, 3)

    async def test_the_pages_are_the_list(self, api: httpx.AsyncClient, newest_first: list[str]) -> None:
        pages = await followed(api, "/v1/executions?page_size=3")
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [one for page in pages for one in page] == newest_first

    async def test_one_can_go_on_by_cursor(self, api: httpx.AsyncClient, newest_first: list[str]) -> None:
        first = (await api.get("/v1/executions?page=1&page_size=3")).json()
        assert ids(await api.get(f"/v1/executions?cursor={first['next_cursor']}")) == newest_first[3:]

    async def test_past_the_end(self, api: httpx.AsyncClient, newest_first: list[str]) -> None:
        document = (await api.get("/v1/executions?page=9&page_size=3")).json()
        assert (document["items"], document["total"], document["next_cursor"]) == ([], len(newest_first), None)


class TestItems:
    async def test_they_are_executions_without_what_is_heavy(
        self, api: httpx.AsyncClient, service: ExecutionService
    ) -> None:
        whole = await submitted(api, parameters={"steps": 2}, agent_id="a")
        (item,) = (await api.get("/v1/executions?agent_id=a")).json()["items"]
        del whole["parameters"], whole["result"], whole["progress"]["context"]
        assert item == whole

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"state": "PENDING"}, True),
            ({"state": "CANCELLED"}, False),
            ({"kind": "noop"}, True),
            ({"kind": "other"}, False),
            ({"agent_id": "summarizer"}, True),
            ({"task_id": "T-17"}, True),
            ({"task_id": "T-1"}, False),
            ({"created_after": "2020-01-01T00:00:00Z"}, True),
            ({"created_after": "2999-01-01T00:00:00+01:00"}, False),
            ({"created_before": "2999-01-01T00:00:00Z", "state": "PENDING"}, True),
            ({"created_before": "2020-01-01T00:00:00Z"}, False),
        ],
    )
    async def test_filters(self, api: httpx.AsyncClient, filters: dict[str, str], expected: bool) -> None:
        made = await submitted(api, agent_id="summarizer", task_id="T-17")
        assert ids(await api.get("/v1/executions", params=filters)) == [made["id"]] * expected

    async def test_a_plus_that_nobody_escaped(self, api: httpx.AsyncClient) -> None:
        made = await submitted(api)
        assert ids(await api.get("/v1/executions?created_after=2020-01-01T00:00:00+01:00")) == [made["id"]]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"limit": 0}, "#/limit"),
        ({"limit": MAX_LIMIT + 1}, "#/limit"),
        ({"limit": "many"}, "#/limit"),
        ({"page": 0}, "#/page"),
        ({"page_size": MAX_LIMIT + 1}, "#/page_size"),
        ({"page": 1, "limit": 1}, "#/page"),
        ({"page_size": 1, "cursor": "AAAAAAAAAAAAAAAAAAAAAA"}, "#/page"),
        ({"state": "SLEEPING"}, "#/state"),
        ({"state": ""}, "#/state"),
        ({"sate": "PENDING"}, "#/sate"),
        ({"created_after": "yesterday"}, "#/created_after"),
        ({"created_after": "1700000000"}, "#/created_after"),
        ({"created_after": "2020-01-01T00:00:00"}, "#/created_after"),
    ],
)
async def test_what_is_not_understood(api: httpx.AsyncClient, query: dict[str, Any], pointer: str) -> None:
    document = check_problem(await api.get("/v1/executions", params=query), 422, "invalid_fields")
    assert [(one["in"], one["pointer"]) for one in document["errors"]] == [("query", pointer)]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_time_at_the_end_of_time(api: httpx.AsyncClient, moment: str) -> None:
    check_problem(await api.get("/v1/executions", params={"created_after": moment}), 422, "invalid_filter")
