"""`http.request`: only where it is allowed to, to the address that was checked, and bounded in time and size."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import ssl
import time
from collections.abc import Sequence
from typing import Any

import pytest

from execution.settings import Settings
from execution.steps.handlers.address_guard import Resolver
from execution.steps.handlers.http_request import HttpRequestHandler
from execution.steps.handlers.refusals import (
    AddressNotAllowedError,
    HeaderNotAllowedError,
    InvalidStepError,
    OriginNotAllowedError,
    RequestFailedError,
)
from tests.support.certificates import Authority
from tests.support.http_origin import Origin, always, answer, origin
from tests.support.step_calls import executed

LOOPBACK = "127.0.0.1/32"
SECRET = "token-Qp7uX2"


def handler(
    *origins: str, resolve: Resolver | None = None, private: str = LOOPBACK, **changes: Any
) -> HttpRequestHandler:
    settings = Settings(**{"steps_http_origins": ",".join(origins), "steps_http_private_networks": private} | changes)
    return HttpRequestHandler(settings, resolve)


def answering(*answers: Sequence[str]) -> tuple[Resolver, list[str]]:
    """A name server that gives one answer after the other, the last one for ever; and who was asked for."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


def head_of(server: Origin) -> dict[str, str]:
    """The headers of the only request."""
    (request,) = server.requests
    return dict(line.split(": ", 1) for line in request.partition("\r\n\r\n")[0].split("\r\n")[1:])


class TestAnAnswer:
    async def test_is_kept_with_what_identifies_it(self) -> None:
        headers = 'content-type: text/plain\r\netag: "1"\r\nset-cookie: session=1\r\nserver: x\r\n'
        async with origin(always(answer(b"hello \xc3\xbc", headers=headers))) as server:
            output = await executed(handler(server.url), f"{server.url}/path?key=value#fragment")
        assert output.success
        seconds = output.output["seconds"]
        assert output.output == {
            "status": 200,
            "headers": {"content-type": "text/plain", "etag": '"1"'},
            "body": "hello ü",
            "encoding": "utf-8",
            "bytes": 8,
            "sha256": hashlib.sha256(b"hello \xc3\xbc").hexdigest(),
            "url": f"{server.url}/path",
            "seconds": seconds,
        }
        assert server.requests[0].startswith("GET /path?key=value HTTP/1.1\r\n")

    @pytest.mark.parametrize("body", [b"\xff\xfe", b"a\x00b"])
    async def test_that_is_no_text_is_kept_as_base64(self, body: bytes) -> None:
        async with origin(always(answer(body))) as server:
            output = await executed(handler(server.url), server.url)
        assert output.output["encoding"] == "base64"
        assert base64.b64decode(output.output["body"]) == body

    @pytest.mark.parametrize(
        ("status", "expected", "success"),
        [
            ("204 No Content", [], True),
            ("404 Not Found", [], False),
            ("404 Not Found", [404], True),
            ("500 Oops", [404], False),
            ("301 Moved", [], False),
        ],
    )
    async def test_that_was_not_expected_fails_the_step(self, status: str, expected: list[int], success: bool) -> None:
        async with origin(always(answer(status=status))) as server:
            output = await executed(handler(server.url), server.url, expected=expected)
        assert output.success is success
        assert output.output["status"] == int(status[:3])
        assert (output.error is None) is success

    async def test_to_what_was_sent(self) -> None:
        async with origin(always(answer(status="201 Created"))) as server:
            output = await executed(
                handler(server.url),
                server.url,
                method="POST",
                body='{"a": "ü"}',
                headers={"Content-Type": "application/json", "Idempotency-Key": "7"},
            )
            assert output.success
            sent = head_of(server)
            assert server.requests[0].endswith('\r\n\r\n{"a": "ü"}')
        assert sent.pop("Host") == f"127.0.0.1:{server.port}"
        assert {name.lower(): value for name, value in sent.items()} == {
            "content-type": "application/json",
            "idempotency-key": "7",
            "content-length": "11",
            "accept-encoding": "identity",
            "user-agent": "execution-service",
        }


class TestWhereTo:
    async def test_nowhere_by_default(self) -> None:
        async with origin(always(answer())) as server:
            with pytest.raises(OriginNotAllowedError, match="EXECUTION_STEPS_HTTP_ORIGINS"):
                await executed(HttpRequestHandler(Settings()), server.url)
        assert server.requests == []

    @pytest.mark.parametrize(
        "url",
        [
            "https://api.example.com:8443/",
            "http://api.example.com/",
            "https://api.example.com.evil.test/",
            "https://evil.test/https://api.example.com/",
            "https://evil.test#@api.example.com/",
            "https://evil.test\\@api.example.com/",
            "https://apiéexample.com/",
        ],
    )
    async def test_to_an_allowed_origin_only(self, url: str) -> None:
        resolve, asked = answering(["127.0.0.1"])
        with pytest.raises((OriginNotAllowedError, InvalidStepError)):
            await executed(handler("https://api.example.com", resolve=resolve), url)
        assert asked == []

    @pytest.mark.parametrize(
        "url", ["", "api.example.com", "ftp://h/", "file:///etc/passwd", "http://u:pass@h/", "http:///p", "http://h:x/"]
    )
    async def test_not_to_what_is_no_url_for_it(self, url: str) -> None:
        with pytest.raises(InvalidStepError) as refused:
            await executed(handler("http://h"), url)
        assert "pass" not in str(refused.value).replace("password", "")

    async def test_not_to_an_address_inside_whatever_the_name(self) -> None:
        async with origin(always(answer())) as server:
            for private in ("", "10.0.0.0/8"):
                with pytest.raises(AddressNotAllowedError):
                    await executed(handler(server.url, private=private), server.url)
        assert server.requests == []

    async def test_to_the_address_that_was_checked_and_to_no_other(self) -> None:
        """The second answer of the name server (rebinding) is never asked for."""
        resolve, asked = answering(["127.0.0.1"], ["127.0.0.9"])
        async with origin(always(answer(b"the right one"))) as server:
            url = f"http://api.example.com:{server.port}"
            output = await executed(handler(url, resolve=resolve), f"{url}/x")
            assert head_of(server)["Host"] == f"api.example.com:{server.port}"
        assert output.output["body"] == "the right one"
        assert output.output["url"] == f"{url}/x"
        assert asked == ["api.example.com"]

    async def test_a_name_that_is_bound_anew_is_checked_anew(self) -> None:
        resolve, _ = answering(["127.0.0.1"], ["127.0.0.9"])
        async with origin(always(answer())) as server:
            url = f"http://api.example.com:{server.port}"
            one = handler(url, resolve=resolve)
            assert (await executed(one, url)).success
            with pytest.raises(AddressNotAllowedError):
                await executed(one, url)

    async def test_to_the_next_address_where_nobody_listens(self) -> None:
        resolve, _ = answering(["127.0.0.2", "127.0.0.1"])
        async with origin(always(answer())) as server:
            url = f"http://api.example.com:{server.port}"
            assert (await executed(handler(url, resolve=resolve, private="127.0.0.0/8"), url)).success

    async def test_nobody_there(self) -> None:
        async with origin(always(answer())) as server:
            pass
        with pytest.raises(RequestFailedError, match=r"The request to 127\.0\.0\.1 failed: ConnectError") as failed:
            await executed(handler(server.url), server.url)
        assert failed.value.retriable

    async def test_no_proxy_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with origin(always(answer(b"proxy"))) as proxy, origin(always(answer(b"direct"))) as server:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("ALL_PROXY", proxy.url)
            assert (await executed(handler(server.url), server.url)).output["body"] == "direct"


class TestRedirects:
    async def test_are_not_followed_unless_asked_for(self) -> None:
        async with origin(always(answer(status="302 Found", headers="location: /other\r\n"))) as server:
            output = await executed(handler(server.url), server.url)
        assert (output.success, output.output["headers"]["location"]) == (False, "/other")
        assert len(server.requests) == 1

    async def test_are_followed_as_far_as_asked_for(self) -> None:
        async def respond(head: bytes, writer: asyncio.StreamWriter) -> None:
            number = int(head.split()[1].decode().rpartition("/")[2])
            writer.write(answer(status="307 Again", headers=f"location: {number + 1}\r\n") if number < 3 else answer())

        async with origin(respond) as server:
            one = handler(server.url)
            assert not (await executed(one, f"{server.url}/a/1", redirects=1)).success
            output = await executed(one, f"{server.url}/a/1", redirects=2)
        assert (output.success, output.output["url"]) == (True, f"{server.url}/a/3")

    async def test_to_loopback_are_refused_like_loopback_itself(self) -> None:
        async with origin(always(answer(b"inside"))) as inside:
            redirecting = always(answer(status="302 Found", headers=f"location: {inside.url}\r\n"))
            async with origin(redirecting) as server:
                with pytest.raises(OriginNotAllowedError):
                    await executed(handler(server.url), server.url, redirects=5)
        assert inside.requests == []

    async def test_to_an_allowed_name_that_leads_inside_are_refused(self) -> None:
        resolve, asked = answering(["127.0.0.1"], ["127.0.0.9"])
        async with origin(always(answer(status="302 Found", headers="location: http://second.test\r\n"))) as server:
            first = f"http://first.test:{server.port}"
            with pytest.raises(AddressNotAllowedError):
                await executed(handler(first, "http://second.test", resolve=resolve), first, redirects=1)
        assert asked == ["first.test", "second.test"]

    @pytest.mark.parametrize("location", ["http://u:p@127.0.0.1/", "http://[", "file:///etc/passwd"])
    async def test_to_nonsense(self, location: str) -> None:
        redirecting = always(answer(status="302 Found", headers=f"location: {location}\r\n"))
        async with origin(redirecting) as server:
            with pytest.raises((RequestFailedError, OriginNotAllowedError)):
                await executed(handler(server.url), server.url, redirects=1)

    async def test_are_not_for_what_changes_something(self) -> None:
        with pytest.raises(InvalidStepError, match="GET and HEAD only"):
            await executed(handler("http://h"), "http://h", method="POST", redirects=1)


class TestBounds:
    async def test_a_large_body_is_cut_off(self) -> None:
        async def respond(_head: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"x" * 65_536)
                await writer.drain()

        async with origin(respond) as server:
            with pytest.raises(RequestFailedError, match="more than 1,024 bytes"):
                await executed(handler(server.url, steps_http_body_bytes=1_024), server.url)

    async def test_a_small_body_that_would_be_a_large_one_is_not_unpacked(self) -> None:
        packed = gzip.compress(b"x" * 1_000_000)
        async with origin(always(answer(packed, headers="content-encoding: gzip\r\n"))) as server:
            with pytest.raises(RequestFailedError, match="its body is encoded"):
                await executed(handler(server.url), server.url)

    @pytest.mark.parametrize("where", ["nothing", "head", "body"])
    async def test_an_answer_that_drips_is_given_up_in_time(self, where: str) -> None:
        begun = {"nothing": b"", "head": b"HTTP/1.1 200 OK\r\nx: ", "body": b"HTTP/1.1 200 OK\r\n\r\n"}[where]

        async def respond(_head: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(begun)
            while True:
                writer.write(b"x" if begun else b"")
                await writer.drain()
                await asyncio.sleep(0.02)

        async with origin(respond) as server:
            began = time.monotonic()
            with pytest.raises(RequestFailedError, match=r"no whole answer came within 0\.2 s"):
                await executed(handler(server.url), server.url, timeout_seconds=0.2)
        assert time.monotonic() - began < 5

    async def test_a_name_server_that_is_silent_is_given_up_in_time(self) -> None:
        async def resolve(_host: str, _port: int) -> Sequence[str]:
            await asyncio.Event().wait()
            return []

        with pytest.raises(RequestFailedError, match=r"within 0\.1 s"):
            await executed(handler("http://h", resolve=resolve, steps_http_seconds=0.1), "http://h")

    async def test_cancelled_it_cuts_the_connection(self) -> None:
        there, gone = asyncio.Event(), asyncio.Event()

        async def respond(_head: bytes, writer: asyncio.StreamWriter) -> None:
            there.set()
            try:
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.01)
            except ConnectionError:
                gone.set()

        async with origin(respond) as server, asyncio.timeout(10):
            running = asyncio.create_task(executed(handler(server.url), server.url))
            await there.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await gone.wait()

    @pytest.mark.parametrize("junk", [b"SSH-2.0-x\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b""])
    async def test_what_is_no_http(self, junk: bytes) -> None:
        async with origin(always(junk)) as server:
            with pytest.raises(RequestFailedError):
                await executed(handler(server.url), server.url)

    @pytest.mark.parametrize(
        "parameters",
        [
            {"method": "CONNECT"},
            {"method": "get"},
            {"headers": {"accept": "a\r\nx: y"}},
            {"expected": [99]},
            {"redirects": 6},
            {"proxy": "http://h"},
        ],
    )
    async def test_parameters_that_do_not_fit(self, parameters: dict[str, Any]) -> None:
        with pytest.raises(InvalidStepError):
            await executed(handler("http://h"), "http://h", **parameters)


class TestSecrets:
    def with_secret(self, server: Origin, **others: Any) -> HttpRequestHandler:
        secrets = f'{{"{server.url}": {{"Authorization": "Bearer {SECRET}"}}}}'
        return handler(server.url, steps_http_credentials=secrets, **others)

    async def test_are_sent_and_nowhere_else(self) -> None:
        async def echo(head: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(head, headers=f"location: /{SECRET}\r\n"))

        async with origin(echo) as server:
            one = self.with_secret(server)
            output = await executed(one, server.url)
            assert f"authorization: Bearer {SECRET}" in server.requests[0]
        assert SECRET not in repr(output)
        assert "authorization: [secret]" in output.output["body"]
        assert output.output["headers"]["location"] == "/[secret]"
        assert SECRET not in repr(vars(one))

    async def test_go_to_their_origin_only(self) -> None:
        async with origin(always(answer())) as second:
            first_answer = always(answer(status="302 Found", headers=f"location: {second.url}\r\n"))
            async with origin(first_answer) as first:
                secrets = f'{{"{first.url}": {{"X-Key": "{SECRET}"}}}}'
                one = handler(first.url, second.url, steps_http_credentials=secrets)
                assert (await executed(one, first.url, redirects=1)).success
                assert SECRET in first.requests[0]
        assert SECRET not in second.requests[0]

    async def test_of_another_origin_are_not_sent_because_a_redirect_leads_there(self) -> None:
        """Otherwise whoever redirects says what is asked for in our name."""
        async with origin(always(answer(b"told"))) as second:
            first_answer = always(answer(status="302 Found", headers=f"location: {second.url}/all\r\n"))
            async with origin(first_answer) as first:
                secrets = f'{{"{second.url}": {{"X-Key": "{SECRET}"}}}}'
                one = handler(first.url, second.url, steps_http_credentials=secrets)
                assert (await executed(one, first.url, redirects=1)).output["body"] == "told"
                assert (await executed(one, second.url)).success
        assert [SECRET in request for request in second.requests] == [False, True]

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ('quo"te\\d', '{"key": "quo\\"te\\\\d"}'),
            ("sla/sh+ed=", "key=sla%2Fsh%2Bed%3D&x=1"),
            ("two words here", "q=two+words+here"),
            ("Basic dXNlcjpwYXNzd29yZA==", '{"user": "user", "password": "password"}'),
            (SECRET, "dG9rZW4tUXA3dVgy"),
        ],
    )
    async def test_are_found_as_others_write_them(self, value: str, told: str) -> None:
        async with origin(always(answer(told.encode()))) as server:
            credentials = json.dumps({server.url: {"Authorization": value}})
            output = await executed(handler(server.url, steps_http_credentials=credentials), server.url)
        assert output.output["body"].count("[secret]") == (2 if "password" in told else 1)

    async def test_are_taken_out_of_where_the_answer_came_from(self) -> None:
        async def respond(head: bytes, writer: asyncio.StreamWriter) -> None:
            is_there = SECRET.encode() in head.split()[1]
            writer.write(answer() if is_there else answer(status="302 Found", headers=f"location: /{SECRET}\r\n"))

        async with origin(respond) as server:
            output = await executed(self.with_secret(server), server.url, redirects=1)
        assert output.output["url"] == f"{server.url}/[secret]"

    @pytest.mark.parametrize("nonsense", [f"HTTP/1.1 {SECRET}\r\n\r\n", f"{SECRET}\r\n\r\n"])
    async def test_are_taken_out_of_what_is_wrong_with_an_answer(self, nonsense: str) -> None:
        async with origin(always(nonsense.encode())) as server:
            with pytest.raises(RequestFailedError, match=r"\[secret\]") as failed:
                await executed(self.with_secret(server), server.url)
        assert SECRET not in str(failed.value)

    async def test_are_taken_out_of_where_it_must_not_go(self) -> None:
        elsewhere = always(answer(status="302 Found", headers=f"location: http://{SECRET}.test/\r\n"))
        async with origin(elsewhere) as server:
            with pytest.raises((RequestFailedError, OriginNotAllowedError)) as failed:
                await executed(self.with_secret(server), server.url, redirects=1)
        assert SECRET.lower() not in str(failed.value).lower()

    @pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Key", "host", "content-length"])
    async def test_do_not_stand_in_plans(self, name: str) -> None:
        resolve, asked = answering(["127.0.0.1"])
        with pytest.raises(HeaderNotAllowedError) as refused:
            await executed(handler("http://h", resolve=resolve), "http://h", headers={name: SECRET})
        assert SECRET not in str(refused.value)
        assert asked == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


class TestEncrypted:
    """The host is `api.test`, whatever name it is asked by."""

    async def request(self, authority: Authority, name: str, **changes: Any) -> str:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(authority.issue("api", "DNS:api.test"))
        resolve, _ = answering(["127.0.0.1"])
        async with origin(always(answer(b"encrypted")), tls=tls) as server:
            url = f"https://{name}:{server.port}"
            output = await executed(handler(url, resolve=resolve, **changes), url)
        return str(output.output["body"])

    async def test_the_certificate_has_to_name_the_host_not_the_address(self, authority: Authority) -> None:
        assert await self.request(authority, "api.test", steps_http_ca_file=authority.file) == "encrypted"

    async def test_another_name_is_refused(self, authority: Authority) -> None:
        with pytest.raises(RequestFailedError, match=r"CERTIFICATE_VERIFY_FAILED.*Hostname mismatch"):
            await self.request(authority, "other.test", steps_http_ca_file=authority.file)

    async def test_a_certificate_nobody_vouches_for_is_refused(self, authority: Authority) -> None:
        with pytest.raises(RequestFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            await self.request(authority, "api.test")
