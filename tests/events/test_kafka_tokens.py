"""Tokens for Kafka: from a file, and from a real endpoint over TLS."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.abc import AbstractTokenProvider

from events.kafka_tokens import ClientCredentials, TokenError, TokenFile
from events.secret import Secret
from tests.support.certificates import Authority
from tests.support.token_endpoint import TokenEndpoint, token_endpoint

SECRET = "s3cret/with:signs&spaces "


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Path:
    return authority.issue("endpoint")


@pytest.fixture
async def endpoint(certificate: Path) -> AsyncIterator[TokenEndpoint]:
    async with token_endpoint(certificate) as endpoint:
        yield endpoint


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def credentials(endpoint: TokenEndpoint, authority: Authority, clock: Clock) -> ClientCredentials:
    return asking(endpoint, ca_file=authority.file, clock=clock)


def asking(endpoint: TokenEndpoint, **options: Any) -> ClientCredentials:
    return ClientCredentials(endpoint.url, client_id="me & you", client_secret=Secret(SECRET), **options)


def token(name: str, **others: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"access_token": name, "token_type": "Bearer", "expires_in": 100} | others


class TestEndpoint:
    async def test_it_is_asked_as_the_standard_says(self, endpoint: TokenEndpoint, authority: Authority) -> None:
        endpoint.answer = lambda: token("one.two-three_~+/4==")
        credentials = asking(endpoint, ca_file=authority.file, scope="kafka:events read")
        assert isinstance(credentials, AbstractTokenProvider)
        assert await credentials.token() == "one.two-three_~+/4=="
        ((head, form),) = endpoint.requests
        encoded = "me+%26+you:s3cret%2Fwith%3Asigns%26spaces+"
        assert f"Authorization: Basic {base64.b64encode(encoded.encode()).decode()}" in head
        assert head.startswith("POST /token ")
        assert form == "grant_type=client_credentials&scope=kafka%3Aevents+read"

    async def test_a_token_is_kept_until_near_its_end(
        self, endpoint: TokenEndpoint, credentials: ClientCredentials, clock: Clock
    ) -> None:
        endpoint.answer = lambda: token(f"number-{len(endpoint.requests)}")
        assert await asyncio.gather(*(credentials.token() for _ in range(20))) == ["number-1"] * 20
        clock.now += 79
        assert await credentials.token() == "number-1"
        clock.now += 2
        assert await credentials.token() == "number-2"
        assert len(endpoint.requests) == 2

    async def test_one_of_unknown_length_is_used_once(
        self, endpoint: TokenEndpoint, credentials: ClientCredentials
    ) -> None:
        endpoint.answer = lambda: token(f"number-{len(endpoint.requests)}", expires_in=None)
        assert [await credentials.token() for _ in range(3)] == ["number-1", "number-2", "number-3"]

    async def test_one_that_is_still_valid_is_used_while_the_endpoint_is_away(
        self, endpoint: TokenEndpoint, credentials: ClientCredentials, clock: Clock
    ) -> None:
        endpoint.answer = lambda: token("first")
        await credentials.token()
        endpoint.answer = lambda: (503, b"away")
        clock.now += 99
        assert await credentials.token() == "first"
        clock.now += 2
        with pytest.raises(TokenError, match="answers 503"):
            await credentials.token()

    @pytest.mark.parametrize(
        ("status", "content", "said"),
        [
            (401, {"error": "invalid_client"}, r"answers 401 \(invalid_client\)$"),
            (400, {"error": SECRET, "error_description": SECRET}, "answers 400$"),
            (302, b"", "answers 302$"),
            (200, b"<html>", "gives is no token"),
            (200, {"access_token": 7}, "gives is no token"),
            (200, {"access_token": "a\x01auth=Bearer b"}, "gives is no token"),
            (200, b"x" * 70_000, "answers with more than 65536 bytes"),
        ],
    )
    async def test_what_is_no_token_is_refused_and_no_secret_repeated(
        self, endpoint: TokenEndpoint, credentials: ClientCredentials, status: int, content: object, said: str
    ) -> None:
        endpoint.answer = lambda: (status, content)
        with pytest.raises(TokenError, match=said) as caught:
            await credentials.token()
        assert SECRET not in f"{caught.value} {credentials!r}"
        assert len(endpoint.requests) == 1

    async def test_no_answer_is_an_error_within_the_time(self, endpoint: TokenEndpoint, authority: Authority) -> None:
        async def never() -> tuple[int, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        endpoint.answer = never
        async with asyncio.timeout(10):
            with pytest.raises(TokenError, match=r"does not answer within 0.2 s"):
                await asking(endpoint, ca_file=authority.file, timeout=0.2).token()

    async def test_an_endpoint_that_nobody_vouches_for_is_told_nothing(self, endpoint: TokenEndpoint) -> None:
        with pytest.raises(TokenError, match="CERTIFICATE_VERIFY_FAILED"):
            await asking(endpoint).token()
        assert endpoint.requests == []

    async def test_nobody_there(self, credentials: ClientCredentials, authority: Authority) -> None:
        nobody = ClientCredentials("https://127.0.0.1:9/token", client_id="me", client_secret=Secret(SECRET))
        with pytest.raises(TokenError, match=r"127.0.0.1:9/token: ConnectError"):
            await nobody.token()


class TestFile:
    async def test_it_is_read_each_time(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        tokens = TokenFile(file)
        assert isinstance(tokens, AbstractTokenProvider)
        for text in ("first.token.", "second.token."):
            file.write_text(f"{text}\n")
            assert await tokens.token() == text

    @pytest.mark.parametrize("content", [None, b"", b"two words", b"a\x01b", b"\xff"])
    async def test_without_a_token_in_it_there_is_none(self, tmp_path: Path, content: bytes | None) -> None:
        file = tmp_path / "token"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(TokenError, match=str(file)):
            await TokenFile(file).token()
