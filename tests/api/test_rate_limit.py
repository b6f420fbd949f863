"""Token buckets, and what they keep from the server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from execution.api.rate_limit import WRONG_KEYS_AT_ONCE, TokenBuckets, network_of
from execution.key_token import KeyToken
from execution.keys import KeyRing
from execution.principal import Scope
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.service import short_settings

LIST = "/v1/executions/01890000-0000-7000-8000-000000000000"


class HandClock:
    """Monotonic time, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


class TestBuckets:
    def test_a_burst_and_then_the_rate(self, clock: HandClock) -> None:
        buckets = TokenBuckets(per_second=4, burst=3, clock=clock)
        assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(0.25)]
        clock.seconds += 0.25
        assert [buckets.take("a") for _ in range(2)] == [0, pytest.approx(0.25)]
        assert buckets.take("b") == 0

    def test_a_refusal_costs_nothing_and_a_pause_fills_no_more_than_the_bucket(self, clock: HandClock) -> None:
        buckets = TokenBuckets(per_second=1, burst=2, clock=clock)
        for _ in range(10):
            buckets.take("a")
        clock.seconds += 100
        assert [buckets.take("a") for _ in range(3)] == [0, 0, pytest.approx(1)]

    def test_less_than_one_in_a_second(self, clock: HandClock) -> None:
        buckets = TokenBuckets(per_second=0.1, burst=1, clock=clock)
        assert [buckets.take("a"), buckets.take("a")] == [0, pytest.approx(10)]

    def test_what_is_given_back_can_be_taken_again(self, clock: HandClock) -> None:
        buckets = TokenBuckets(per_second=1, burst=1, clock=clock)
        buckets.take("a")
        buckets.give_back("a")
        assert buckets.take("a") == 0
        assert buckets.take("a") > 0

    def test_they_are_bounded_in_number(self, clock: HandClock) -> None:
        buckets = TokenBuckets(per_second=1, burst=1, limit=3, clock=clock)
        for number in range(100):
            buckets.take(number)
        assert len(buckets) == 3
        assert [buckets.take(number) for number in (97, 98, 99)] == [pytest.approx(1)] * 3


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("unix", "unix"),
        (None, ""),
    ],
)
def test_who_stands_for_a_client(address: str | None, stands_for: str) -> None:
    assert network_of(address) == stands_for


class TestRequests:
    @pytest.fixture
    async def service(self, database_url: str) -> AsyncIterator[ExecutionService]:
        settings = short_settings(database_url, rate_limit_per_second=0.001, rate_limit_burst=3)
        async with open_service(settings) as service:
            yield service

    async def test_each_key_has_its_own_limit(self, api: httpx.AsyncClient, keys: KeyRing) -> None:
        for name in ("a", "b"):
            authorization = await bearer(keys, name)
            answers = [await api.get(LIST, headers=authorization) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
            assert answers[-1].json()["type"] == "/problems/rate_limited"
            assert 990 < int(answers[-1].headers["retry-after"]) <= 1000

    async def test_without_keys_everybody_shares_one(self, api: httpx.AsyncClient) -> None:
        assert [(await api.get(LIST)).status_code for _ in range(4)] == [404, 404, 404, 429]

    async def test_the_refused_body_is_not_read(self, app: FastAPI, keys: KeyRing) -> None:
        """Neither for a caller who may send no more, nor for one who is nobody."""
        authorization = await bearer(keys, "a")
        for _ in range(3):
            assert await status_of_post(app, authorization) == 400
        assert await status_of_post(app, authorization, unread=True) == 429
        assert await status_of_post(app, {}, unread=True) == 401


class TestWrongKeys:
    async def test_an_address_that_makes_up_keys_is_slowed_down(self, api: httpx.AsyncClient, keys: KeyRing) -> None:
        known = await bearer(keys, "known")
        assert (await api.get(LIST, headers=known)).status_code == 404
        made_up = [await get_with(api, KeyToken.new().text) for _ in range(2 * WRONG_KEYS_AT_ONCE)]
        statuses = [answer.status_code for answer in made_up]
        assert statuses[:WRONG_KEYS_AT_ONCE] == [401] * WRONG_KEYS_AT_ONCE
        assert 429 in statuses
        refused = made_up[statuses.index(429)]
        assert int(refused.headers["retry-after"]) == 1
        assert (await api.get(LIST, headers=known)).status_code == 404, "a key that is known to be right is let in"

    async def test_one_wrong_key_sent_again_and_again_is_no_attack(self, api: httpx.AsyncClient, keys: KeyRing) -> None:
        await bearer(keys, "other")
        for wrong in (KeyToken.new().text, "exk_mistyped"):
            answers = [await get_with(api, wrong) for _ in range(WRONG_KEYS_AT_ONCE + 5)]
            assert {answer.status_code for answer in answers} == {401}

    async def test_right_keys_are_not_counted(self, api: httpx.AsyncClient, keys: KeyRing) -> None:
        for number in range(WRONG_KEYS_AT_ONCE + 5):
            assert (await api.get(LIST, headers=await bearer(keys, f"k{number}"))).status_code == 404


async def bearer(keys: KeyRing, name: str) -> dict[str, str]:
    """The header of a key of its own."""
    new = await keys.create(name, tenant_id="default", scopes=[Scope.WRITE])
    return {"authorization": f"Bearer {new.token}"}


async def get_with(api: httpx.AsyncClient, token: str) -> httpx.Response:
    return await api.get(LIST, headers={"authorization": f"Bearer {token}"})


async def status_of_post(app: FastAPI, headers: dict[str, str], *, unread: bool = False) -> int:
    """What a POST with a spoilt body is answered; `unread`: before anybody asks for the body."""
    statuses: list[int] = []

    async def receive() -> Message:
        assert not unread, "the body was read"
        return {"type": "http.request", "body": b"{", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    sent = {"host": "localhost", "content-type": "application/json", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/executions",
        "raw_path": b"/v1/executions",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return statuses[0]
