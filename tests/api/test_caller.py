"""Who may call what: every operation of the OpenAPI document, with no key, with wrong keys, and with each scope."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from execution.api.server import HttpServer
from execution.key_token import KeyToken
from execution.keys import KeyRing
from execution.principal import Scope
from execution.service import ExecutionService
from tests.support.open_api import Operation, operations
from tests.support.service import PATIENCE

NOBODY = UUID("01890000-0000-7000-8000-000000000000")
PATH = f"/v1/executions/{NOBODY}"
NEEDED = {"GET": Scope.READ, "POST": Scope.WRITE, "DELETE": Scope.ADMIN}


@pytest.fixture
async def token(keys: KeyRing) -> str:
    return (await keys.create("reader", tenant_id="default", scopes=[Scope.READ])).token


def guarded(app: FastAPI) -> list[Operation]:
    document = app.openapi()
    found = [*operations(document, "/v1/"), *operations(document, "/metrics")]
    assert {one.method for one in found} <= NEEDED.keys()
    return found


async def status(client: httpx.AsyncClient, operation: Operation, authorization: str | None) -> httpx.Response:
    path = operation.path.format(**dict.fromkeys(operation.parameters, NOBODY))
    headers = {} if authorization is None else {"authorization": authorization}
    async with client.stream(operation.method, path, json=operation.body, headers=headers) as response:
        if response.headers.get("content-type", "").startswith("application/"):
            await response.aread()
    return response


async def test_the_scopes_of_every_operation(app: FastAPI, live: HttpServer, keys: KeyRing) -> None:
    tokens = {scope: (await keys.create(scope, tenant_id="default", scopes=[scope])).token for scope in Scope}
    async with httpx.AsyncClient(base_url=live.url, timeout=PATIENCE) as client:
        for operation in guarded(app):
            for scope, held in tokens.items():
                answer = await status(client, operation, f"Bearer {held}")
                if scope.includes(NEEDED[operation.method]):
                    assert answer.status_code not in {401, 403}, (operation.name, scope)
                else:
                    assert answer.status_code == 403, (operation.name, scope)
                    assert answer.json()["code"] == "insufficient_scope"
                    needs = f"This needs the scope '{NEEDED[operation.method]}'; the API key has {scope}."
                    assert answer.json()["detail"].startswith(needs)
                    challenge = answer.headers["www-authenticate"]
                    assert f'error="insufficient_scope", scope="{NEEDED[operation.method]}"' in challenge


@pytest.mark.usefixtures("token")
async def test_no_operation_without_a_key(app: FastAPI, live: HttpServer) -> None:
    wrong = KeyToken.new().text
    async with httpx.AsyncClient(base_url=live.url, timeout=PATIENCE) as client:
        for operation in guarded(app):
            missing = await status(client, operation, None)
            assert (missing.status_code, missing.json()["code"]) == (401, "api_key_missing"), operation.name
            assert missing.headers["www-authenticate"] == 'Bearer realm="execution"'
            refused = await status(client, operation, f"Bearer {wrong}")
            assert (refused.status_code, refused.json()["code"]) == (401, "invalid_api_key"), operation.name
            assert 'error="invalid_token", error_description="it is unknown"' in refused.headers["www-authenticate"]
            assert wrong[17:] not in refused.text


class TestAuthorization:
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    async def test_the_scheme_is_the_same_in_any_case(self, api: httpx.AsyncClient, token: str, scheme: str) -> None:
        assert (await api.get(PATH, headers={"authorization": f"{scheme} {token}"})).status_code == 404

    @pytest.mark.parametrize(
        ("authorization", "code"),
        [
            ("", "api_key_missing"),
            ("Bearer", "api_key_missing"),
            ("Basic dXNlcjpwYXNz", "api_key_missing"),
            ("Bearer \xe4\xff", "invalid_api_key"),
            ("Bearer " + "x" * 10_000, "invalid_api_key"),
            ("Bearer exk_0123456789AB_", "invalid_api_key"),
        ],
    )
    @pytest.mark.usefixtures("token")
    async def test_what_is_no_key(self, api: httpx.AsyncClient, authorization: str, code: str) -> None:
        answer = await api.get(PATH, headers={b"authorization": authorization.encode("latin-1")})
        assert (answer.status_code, answer.json()["code"]) == (401, code)

    async def test_a_key_whose_time_is_over(self, api: httpx.AsyncClient, keys: KeyRing) -> None:
        new = await keys.create("old", tenant_id="default", scopes=[Scope.READ], expires_in=timedelta(0))
        answer = await api.get(PATH, headers={"authorization": f"Bearer {new.token}"})
        assert 'error_description="it has expired"' in answer.headers["www-authenticate"]

    async def test_a_wrong_key_is_never_logged(
        self, api: httpx.AsyncClient, token: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        wrong = KeyToken.new().text
        await api.get(PATH, headers={"authorization": f"Bearer {wrong}"})
        await api.get(PATH, headers={"authorization": f"Bearer {token[:-1]}"})
        said = "".join(capsys.readouterr()) + caplog.text
        assert wrong[17:] not in said
        assert token[17:-1] not in said


class TestWithoutAnyKey:
    @pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:8080", "service"])
    async def test_this_machine_is_served(self, api: httpx.AsyncClient, host: str) -> None:
        assert (await api.get(PATH, headers={"host": host})).status_code == 404

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "rebound.example.com"},
            {"host": "192.168.0.7:8080"},
            {"host": ""},
            {"host": "[::"},
            {"origin": "https://page.example.com"},
            {"origin": "null"},
            {"origin": "http://["},
        ],
    )
    async def test_a_foreign_page_in_somebodys_browser_is_not(
        self, api: httpx.AsyncClient, headers: dict[str, str]
    ) -> None:
        answer = await api.get(PATH, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "api_key_missing")

    async def test_nor_is_what_a_proxy_passes_on(self, app: FastAPI) -> None:
        transport = httpx.ASGITransport(app=app, client=("203.0.113.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get(PATH)).status_code == 401

    async def test_a_page_of_this_machine_is(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        origin = {"origin": "http://localhost:3000"}
        created = await api.post("/v1/executions", json={"kind": "noop"}, headers=origin)
        assert created.status_code == 202
        history = await service.history(UUID(created.json()["id"]))
        assert {item.actor for item in history} == {"client"}
