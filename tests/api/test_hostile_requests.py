"""What no client of ours would send: on every route that OpenAPI lists, each is refused as a problem, never a 5xx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from execution.api.server import HttpServer
from execution.domain.execution import Execution
from execution.problems import MEDIA_TYPE
from execution.service import ExecutionService
from tests.support.openapi import Operation, operations
from tests.support.service import PATIENCE

JSON = {"content-type": "application/json"}
NESTED = b"[" * 50_000
HOSTILE_BODIES = {
    "empty": b"",
    "white space": b" \n ",
    "null": b"null",
    "true": b"true",
    "a number": b"-0",
    "a text": b'"noop"',
    "a list": b"[[]]",
    "not closed": b'{"kind": "noop"',
    "more after it": b'{"kind": "noop"} {}',
    "a comment": b'{"kind": "noop"} // please',
    "UTF-16 that hides its brackets": ('{"\u2200":"' + "[" * 999).encode("utf-16"),
    "UTF-16": '{"kind": "noop"}'.encode("utf-16"),
    "invalid UTF-8": b'{"kind": "no\xffop", "reason": "\xc3\x28", "message": "\xed\xa0\x80"}',
    "NUL itself": b'{"kind": "no\x00op"}',
    "deep lists": NESTED,
    "deep lists, closed": NESTED + b"]" * 50_000,
    "deep objects": b'{"parameters":' * 50_000,
    "a number of 100,000 digits": b'{"percentage": ' + b"9" * 100_000 + b', "priority": ' + b"9" * 100_000 + b"}",
    "a large exponent": b'{"percentage": 1e999999999, "schedule_to_start": 1e999999999, "limit": 1e999}',
    "infinite": b'{"percentage": Infinity, "kind": "noop", "start_to_close": -Infinity}',
    "not a number": b'{"percentage": NaN, "kind": "noop", "start_to_close": NaN}',
    "an unknown field": b'{"__proto__": {}, "cls": 1, "self": 2, "kind": "noop", "percentage": 1}',
}
"""Refused by every route that takes a body."""

TEXTS = {"NUL": "\\u0000", "half a character": "\\ud800", "halves in the wrong order": "\\udc00\\ud800"}
HUGE = "9" * 400
FIELDS = {
    "/v1/executions": (
        '{{"kind": "{0}"}}',
        '{{"kind": "noop", "agent_id": "{0}"}}',
        '{{"kind": "noop", "task_id": "{0}"}}',
        '{{"kind": "noop", "id": "{0}"}}',
        '{{"kind": "noop", "parameters": {{"text": "{0}"}}}}',
        '{{"kind": "noop", "parameters": {{"{0}": 1}}}}',
        '{{"kind": "noop", "trace_context": "{0}"}}',
        '{{"kind": "noop", "run_at": "{0}"}}',
        '{{"kind": "noop", "retry": {{"error_types": ["{0}"]}}}}',
        f'{{{{"kind": "noop", "parameters": {{{{"number": {HUGE}}}}}}}}}',
        f'{{{{"kind": "noop", "priority": {HUGE}}}}}',
        f'{{{{"kind": "noop", "retry": {{{{"max_attempts": {HUGE}}}}}}}}}',
        f'{{{{"kind": "noop", "schedule_to_start": {HUGE}}}}}',
        '{{"kind": "noop", "run_at": "9999-12-31T23:59:59-14:00"}}',
        '{{"kind": "noop", "run_at": "0001-01-01T00:00:00+14:00"}}',
        '{{"kind": "noop", "run_at": 1e300}}',
        '{{"kind": "noop", "start_to_close": 1e-400}}',
        '{{"kind": "noop", "parameters": {{"depth": ' + "[" * 60 + "{{}}" + "]" * 70 + "}}}}",
    ),
    "/v1/executions/cancel": (
        '{{"filters": {{"kind": "{0}"}}}}',
        '{{"filters": {{"agent_id": "{0}"}}}}',
        '{{"filters": {{"parent_id": "{0}"}}}}',
        '{{"filters": {{"state": "{0}"}}}}',
        '{{"filters": {{"created_after": "{0}"}}}}',
        '{{"filters": {{"created_after": "9999-12-31T23:59:59-14:00"}}}}',
        '{{"filters": {{"created_before": "0001-01-01T00:00:00+14:00"}}}}',
        f'{{{{"filters": {{{{"kind": "noop"}}}}, "limit": {HUGE}}}}}',
    ),
    "/v1/executions/{execution_id}/progress": (
        '{{"percentage": 1, "context": {{"{0}": 1}}}}',
        '{{"percentage": 1, "context": {{"text": "{0}"}}}}',
        f'{{{{"percentage": {HUGE}}}}}',
        f'{{{{"percentage": 1, "context": {{{{"number": {HUGE}}}}}}}}}',
    ),
    "/v1/executions/{execution_id}/result": (
        '{{"result": {{"text": "{0}"}}}}',
        '{{"result": {{"{0}": 1}}}}',
        f'{{{{"result": {{{{"number": -{HUGE}}}}}}}}}',
    ),
}
"""Well-formed JSON in which one field cannot be stored, or is out of all bounds."""

CONTENT_TYPES = [
    "",
    "text/plain",
    "text/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=latin-1",
    "application/jsonp",
    "application/json, text/plain",
    "\xff",
]

QUERIES = [
    "limit=0",
    "limit=-1",
    f"limit={HUGE}",
    "limit=1e3",
    "limit=%EF%BC%91x",
    "limit=",
    "limit=1&page=1",
    "page=0",
    f"page={HUGE}",
    f"page_size={HUGE}",
    "page=1000000000000",
    "cursor=",
    "cursor=%00",
    "cursor=not+a+cursor",
    "cursor=AAAA",
    "cursor=" + "A" * 20_000,
    "cursor=%FF%FE",
    "state=DONE",
    "state=%00",
    "kind=%00",
    "kind=" + "k" * 20_000,
    "agent_id=%ED%A0%80%00",
    "task_id=a%00b",
    "created_after=yesterday",
    "created_after=0",
    "created_after=1e400",
    "created_after=2025-01-01T00:00:00",
    "created_after=9999-12-31T23:59:59-14:00",
    "created_before=0001-01-01T00:00:00%2B14:00",
    "created_before=10000-01-01T00:00:00Z",
    "%00=%00",
    "unknown=1",
    "__class__=1",
    "&".join(f"q{number}=1" for number in range(3_000)),
]
"""For the list; every other route refuses them as unknown."""

IDS = [
    "0",
    "null",
    "not-a-uuid",
    "%00",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%F0%9F%92%A5",
    "%FF%FE",
    "'%20OR%201=1--",
    "x" * 20_000,
    "01970000-0000-7000-8000-00000000000g",
    "%7B01970000-0000-7000-8000-000000000001%7D%7D",
]

IF_MATCH = ["", "1", '"', '"1', "W/", '"' + "9" * 5_000 + '"', "*, *", '"1" "2"', "\xff", '"1",,;']
IDEMPOTENCY_KEYS = ["", "a b", "k" * 256, "\xff", "tab\tbed"]


def assert_refused(answer: httpx.Response, what: object, *expected: int) -> None:
    """It is a problem of the client's, told as all others are."""
    told = f"{what}: {answer.status_code} {answer.text[:300]}"
    assert 400 <= answer.status_code < 500, told
    assert not expected or answer.status_code in expected, told
    assert answer.headers["content-type"] == MEDIA_TYPE, told
    document = answer.json()
    assert document["status"] == answer.status_code, told
    assert document["type"] == f"/problems/{document['code']}", told


@pytest.fixture
async def client(live: HttpServer) -> AsyncIterator[httpx.AsyncClient]:
    """Over a real socket, so that nothing is put right on the way."""
    async with httpx.AsyncClient(base_url=live.url, timeout=PATIENCE) as client:
        yield client
        assert (await client.get("/v1/executions")).status_code == 200, "it does not serve any more"


@pytest.fixture
async def target(service: ExecutionService) -> Execution:
    """An execution that the requests are about. None of them may change it."""
    return await service.create_execution("noop")


@pytest.fixture
async def unchanged(service: ExecutionService, target: Execution) -> AsyncIterator[None]:
    yield
    assert await service.get_execution(target.id) == target
    assert (await service.list_executions())[1] == 1


def with_bodies(app: FastAPI) -> list[Operation]:
    found = [one for one in operations(app) if one.takes_a_body]
    assert found
    return found


@pytest.mark.usefixtures("unchanged")
class TestBodies:
    async def test_on_every_route(self, app: FastAPI, client: httpx.AsyncClient, target: Execution) -> None:
        for one in with_bodies(app):
            for what, body in HOSTILE_BODIES.items():
                if what in {"empty", "null"} and not one.document["requestBody"].get("required"):
                    continue  # nothing at all is a command without a reason
                answer = await client.request(one.method, one.url(target.id), content=body, headers=JSON)
                assert_refused(answer, (what, one), 400, 409, 413, 415, 422)

    async def test_in_one_field(self, client: httpx.AsyncClient, target: Execution) -> None:
        for path, templates in FIELDS.items():
            for body in sorted({one.format(text) for one in templates for text in TEXTS.values()}):
                url = path.format(execution_id=target.id)
                answer = await client.post(url, content=body.encode(), headers=JSON)
                assert_refused(answer, body[:200], 400, 409, 413, 422)

    async def test_in_an_item_of_a_batch(self, client: httpx.AsyncClient) -> None:
        """Such a batch is answered as every other one: item by item."""
        for template in FIELDS["/v1/executions"]:
            for text in TEXTS.values():
                body = f'{{"executions": [{template.format(text)}]}}'
                answer = await client.post("/v1/executions/batch", content=body.encode(), headers=JSON)
                if answer.status_code == 207:
                    (item,) = answer.json()["items"]
                    assert (item["status"], item["problem"]["status"]) == (422, 422), body[:200]
                else:
                    assert_refused(answer, body[:200], 400, 413, 422)

    async def test_of_another_type(self, app: FastAPI, client: httpx.AsyncClient, target: Execution) -> None:
        for one in with_bodies(app):
            for content_type in CONTENT_TYPES:
                headers = httpx.Headers({"content-type": content_type}, encoding="latin-1")
                answer = await client.request(one.method, one.url(target.id), content=b"{}", headers=headers)
                assert_refused(answer, (content_type, one), 415)


@pytest.mark.usefixtures("unchanged")
class TestTargets:
    async def test_queries_of_the_list(self, client: httpx.AsyncClient) -> None:
        for query in QUERIES:
            assert_refused(await client.get(f"/v1/executions?{query}"), query[:100], 400, 414, 422, 431)

    async def test_queries_that_a_route_does_not_know(
        self, app: FastAPI, client: httpx.AsyncClient, target: Execution
    ) -> None:
        for one in operations(app):
            for query in ("unknown=1", "%00=1", "x" * 10_000):
                answer = await client.request(one.method, f"{one.url(target.id)}?{query}", content=b"{}", headers=JSON)
                assert_refused(answer, (one, query[:20]), 400, 414, 415, 422, 431)

    async def test_versions_and_times_that_never_were(self, client: httpx.AsyncClient, target: Execution) -> None:
        own = f"/v1/executions/{target.id}"
        for query in ("at_version=0", "at_version=-1", f"at_version={HUGE}", "at_version=1.5", "at_version=2147483648"):
            assert_refused(await client.get(f"{own}?{query}"), query[:30], 400, 404, 422)
        for query in (f"after_version={HUGE}", "after_version=-1", f"limit={HUGE}", "after_version=2147483648"):
            assert_refused(await client.get(f"{own}/history?{query}"), query[:30], 422)

    async def test_ids(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        for one in operations(app):
            if one.path_parameters:
                for execution_id in IDS:
                    url = one.url(execution_id)
                    answer = await client.request(one.method, url, content=b"{}", headers=JSON)
                    assert_refused(answer, (one, execution_id[:30]), 400, 404, 405, 414, 415, 422, 431)

    async def test_methods(self, app: FastAPI, client: httpx.AsyncClient, target: Execution) -> None:
        """What is not served under a path is refused, and the answer names all that is."""
        served: dict[str, set[str]] = {}
        for one in operations(app):
            served.setdefault(one.url(target.id), set()).add(one.method)
        for url, methods in served.items():
            for method in {"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"} - methods:
                answer = await client.request(method, url)
                assert_refused(answer, f"{method} {url}", 405)
                allowed = {one.strip() for one in answer.headers["allow"].split(",")}
                assert allowed - {"HEAD"} == methods, f"{method} {url}"


@pytest.mark.usefixtures("unchanged")
class TestHeaders:
    async def test_if_match(self, app: FastAPI, client: httpx.AsyncClient, target: Execution) -> None:
        commands = [one for one in operations(app) if one.path_parameters and one.method != "GET"]
        for one in commands:
            body = b'{"percentage": 1}' if one.path.endswith("/progress") else b"{}"
            for value in IF_MATCH:
                headers = httpx.Headers(JSON | {"if-match": value}, encoding="latin-1")
                answer = await client.request(one.method, one.url(target.id), content=body, headers=headers)
                assert_refused(answer, (value, one), 400, 412)

    async def test_idempotency_key(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        nobody = UUID(int=7)
        for one in operations(app):
            if one.method == "POST":
                for value in IDEMPOTENCY_KEYS:
                    headers = httpx.Headers(JSON | {"idempotency-key": value}, encoding="latin-1")
                    answer = await client.post(one.url(nobody), content=b'{"kind": "noop"}', headers=headers)
                    assert_refused(answer, (value, one), 400)

    async def test_two_idempotency_keys(self, client: httpx.AsyncClient) -> None:
        headers = [("content-type", "application/json"), ("idempotency-key", "a"), ("idempotency-key", "b")]
        assert_refused(await client.post("/v1/executions", content=b'{"kind": "noop"}', headers=headers), "two", 400)

    async def test_so_many_that_they_are_not_read(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/executions", headers={f"x-{number}": "y" * 1_000 for number in range(200)})
        assert 400 <= answer.status_code < 500


HALF_REQUESTS = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"GET /v1/executions HTTP/9.9\r\n\r\n",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/executions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
    b"GET /\x00\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/executions HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
]


@pytest.mark.usefixtures("unchanged", "client")
async def test_what_is_no_http(live: HttpServer) -> None:
    """It is refused or hung up on, and the next client is served."""
    host, port = live.url.removeprefix("http://").split(":")
    for sent in HALF_REQUESTS:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), (sent, answer[:200])
