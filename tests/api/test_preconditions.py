"""If-Match and If-None-Match: who decided on an old version is told, and nothing happens."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as some

from execution.api.app import create_app
from execution.api.preconditions import EntityTags
from execution.api.server import HttpServer
from execution.ids import new_id
from execution.presentation import location
from execution.request_errors import MalformedRequestError
from execution.wiring import open_service
from tests.support.over_http import check_problem, submitted
from tests.support.service import PATIENCE, short_settings

ATTEMPTS = 50

MATCHING = ['"2"', ' "2" ', '"1", "2"', '"2","7"', ',"2",', "*", 'W/"2", "2"', '"x", "2", W/"y"']
STALE = ['"1"', '"3"', 'W/"2"', '"02"', '"+2"', '"\xb2"', '""', '"1", "3"', '"99999999999999999999"', 'W/"1", W/"2"']
MALFORMED = ["2", '"2', '2"', "", ",", '"2" "3"', '"2"; "3"', 'w/"2"', '*, "2"', '"a b"', "W/2"]


async def pending(api: httpx.AsyncClient) -> str:
    """Where one is that waits, at version 2."""
    return location((await submitted(api))["id"])


class TestIfMatch:
    @pytest.mark.parametrize("value", MATCHING)
    async def test_it_names_the_version(self, api: httpx.AsyncClient, value: str) -> None:
        assert (await api.post(f"{await pending(api)}/pause", headers={"if-match": value})).status_code == 200

    @pytest.mark.parametrize("value", STALE)
    async def test_it_names_another_one(self, api: httpx.AsyncClient, value: str) -> None:
        own = await pending(api)
        answer = await api.post(f"{own}/pause", headers=[(b"if-match", value.encode("latin-1"))])
        check_problem(answer, 412, "precondition_failed")
        assert (await api.get(own)).json()["version"] == 2

    @pytest.mark.parametrize("value", MALFORMED)
    async def test_it_names_nothing_readable(self, api: httpx.AsyncClient, value: str) -> None:
        own = await pending(api)
        check_problem(await api.post(f"{own}/pause", headers={"if-match": value}), 400, "malformed_request")
        assert (await api.get(own)).json()["version"] == 2

    async def test_several_lines_are_one_list(self, api: httpx.AsyncClient) -> None:
        headers = [("if-match", '"1"'), ("if-match", '"2"')]
        assert (await api.post(f"{await pending(api)}/pause", headers=headers)).status_code == 200

    @pytest.mark.parametrize("value", ["*", '"1"', '"x"'])
    async def test_nothing_is_there_to_match(self, api: httpx.AsyncClient, value: str) -> None:
        answer = await api.post(f"{location(new_id())}/cancel", headers={"if-match": value})
        check_problem(answer, 404, "execution_not_found")

    async def test_a_stale_one_comes_before_the_machines_refusal(self, api: httpx.AsyncClient) -> None:
        answer = await api.post(f"{await pending(api)}/start", headers={"if-match": '"1"'})
        check_problem(answer, 412, "precondition_failed")

    async def test_deleting_asks_for_it_too(self, api: httpx.AsyncClient) -> None:
        own = await pending(api)
        cancelled = await api.post(f"{own}/cancel")
        check_problem(await api.delete(own, headers={"if-match": '"2"'}), 412, "precondition_failed")
        assert (await api.delete(own, headers={"if-match": cancelled.headers["etag"]})).status_code == 204

    async def test_of_many_on_one_version_one_is_carried_out(self, live: HttpServer) -> None:
        limits = httpx.Limits(max_connections=ATTEMPTS)
        async with httpx.AsyncClient(base_url=live.url, timeout=PATIENCE, limits=limits) as client:
            own = await pending(client)
            etag = (await client.get(own)).headers["etag"]
            cancels = (client.post(f"{own}/cancel", headers={"if-match": etag}) for _ in range(ATTEMPTS))
            statuses = Counter(answer.status_code for answer in await asyncio.gather(*cancels))
        assert statuses == {200: 1, 412: ATTEMPTS - 1}

    async def test_it_can_be_demanded(self, database_url: str) -> None:
        async with open_service(short_settings(database_url, require_if_match=True)) as service:
            transport = httpx.ASGITransport(app=create_app(service))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as api:
                own = await pending(api)
                check_problem(await api.post(f"{own}/cancel"), 428, "precondition_required")
                check_problem(await api.delete(own), 428, "precondition_required")
                assert (await api.post(f"{own}/cancel", headers={"if-match": '"2"'})).status_code == 200


class TestIfNoneMatch:
    @pytest.mark.parametrize("value", ['"2"', 'W/"2"', '"1", "2"', "*"])
    async def test_what_is_known_is_not_sent_again(self, api: httpx.AsyncClient, value: str) -> None:
        answer = await api.get(await pending(api), headers={"if-none-match": value})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"2"')

    async def test_what_has_changed_is(self, api: httpx.AsyncClient) -> None:
        own = await pending(api)
        await api.post(f"{own}/pause")
        answer = await api.get(own, headers={"if-none-match": '"2"'})
        assert (answer.status_code, answer.json()["version"]) == (200, 3)


@given(some.text())
def test_whatever_the_header_says_it_is_understood_or_malformed(value: str) -> None:
    try:
        tags = EntityTags.parse("If-Match", value)
    except MalformedRequestError:
        return
    assert tags.anything or tags.strong or tags.weak


@given(some.lists(some.tuples(some.booleans(), some.integers(1, 999)), min_size=1, max_size=5))
def test_what_is_listed_is_read(listed: list[tuple[bool, int]]) -> None:
    tags = EntityTags.parse("If-Match", ", ".join(f'{"W/" * weak}"{version}"' for weak, version in listed))
    for weak, version in listed:
        assert tags.match_weakly(version)
        assert tags.match_strongly(version) or weak
    assert not tags.match_weakly(1000)
