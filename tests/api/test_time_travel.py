"""An execution as it was, and its log, over HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta

import httpx
import pytest

from execution.presentation import location
from tests.support.over_http import check_problem, submitted


@pytest.fixture
async def own(api: httpx.AsyncClient) -> str:
    """Where one is that has a past: paused at version 3, cancelled at 5."""
    own = location((await submitted(api))["id"])
    await api.post(f"{own}/pause")
    assert (await api.post(f"{own}/cancel")).json()["version"] == 5
    return own


class TestAsItWas:
    @pytest.mark.parametrize(
        ("version", "state"), [(1, "CREATED"), (2, "PENDING"), (3, "PAUSED"), (4, "CANCELLED"), (5, "CANCELLED")]
    )
    async def test_at_a_version(self, api: httpx.AsyncClient, own: str, version: int, state: str) -> None:
        answer = await api.get(own, params={"at_version": version})
        assert (answer.json()["version"], answer.json()["state"]) == (version, state)
        assert answer.headers["etag"] == f'"{version}"'

    async def test_at_a_time(self, api: httpx.AsyncClient, own: str) -> None:
        paused = (await api.get(f"{own}/history")).json()["items"][2]
        then = await api.get(own, params={"at": paused["occurred_at"]})
        assert then.json() == (await api.get(own, params={"at_version": 3})).json()

    async def test_before_it_was(self, api: httpx.AsyncClient, own: str) -> None:
        created_at = datetime.fromisoformat((await api.get(own)).json()["created_at"])
        before = (created_at - timedelta(microseconds=1)).isoformat()
        check_problem(await api.get(own, params={"at": before}), 404, "execution_not_yet_created")

    async def test_a_version_it_has_not_reached(self, api: httpx.AsyncClient, own: str) -> None:
        check_problem(await api.get(own, params={"at_version": 6}), 404, "version_not_reached")

    @pytest.mark.parametrize(
        "query",
        ["at_version=0", "at_version=x", "at_version=2147483648", "at=now", "at=2020-01-01T00:00:00Z&at_version=1"],
    )
    async def test_what_is_no_time(self, api: httpx.AsyncClient, own: str, query: str) -> None:
        check_problem(await api.get(f"{own}?{query}"), 422, "invalid_fields")


class TestHistory:
    async def test_it_is_every_change_in_order(self, api: httpx.AsyncClient, own: str) -> None:
        document = (await api.get(f"{own}/history")).json()
        assert [one["version"] for one in document["items"]] == [1, 2, 3, 4, 5]
        assert set(document["items"][0]) == {"execution_id", "version", "type", "occurred_at", "actor", "data"}
        assert document["items"][-1]["type"] == "agent.execution.completed"
        assert document["next"] is None

    @pytest.mark.parametrize("limit", [1, 2, 4, 5])
    async def test_it_comes_in_pages(self, api: httpx.AsyncClient, own: str, limit: int) -> None:
        versions, url, pages = [], f"{own}/history?limit={limit}", 0
        while url:
            answer = await api.get(url)
            assert answer.links.get("next", {}).get("url") == answer.json()["next"]
            versions += [one["version"] for one in answer.json()["items"]]
            url, pages = answer.json()["next"], pages + 1
        assert (versions, pages) == ([1, 2, 3, 4, 5], -(-5 // limit))

    async def test_after_a_version(self, api: httpx.AsyncClient, own: str) -> None:
        items = (await api.get(f"{own}/history?after_version=4")).json()["items"]
        assert [one["version"] for one in items] == [5]
        assert (await api.get(f"{own}/history?after_version=99")).json() == {"items": [], "next": None}

    @pytest.mark.parametrize(
        "query", ["after_version=-1", "after_version=2147483648", "limit=0", "limit=501", "after=1"]
    )
    async def test_what_is_not_understood(self, api: httpx.AsyncClient, own: str, query: str) -> None:
        check_problem(await api.get(f"{own}/history?{query}"), 422, "invalid_fields")
