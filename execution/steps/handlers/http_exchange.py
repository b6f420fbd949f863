"""One request and its answer, over a connection to an address that was checked before."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from execution.steps.handlers.address_guard import Address
from execution.steps.handlers.refusals import RequestFailedError

CONNECT_SECONDS = 5.0
"""What connecting to one address may take, so that there is time for the next one."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is sent. `headers` may hold secrets."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str] = field(repr=False)
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def exchange(request: Request, address: Address, tls: ssl.SSLContext, *, body_limit: int) -> Answer:
    """Send the request to that address, whatever its host's name leads to by now.

    The URL's host is exchanged for the address, and stays what the server is told and what its certificate has to say.
    No proxy, no cookies, no redirects, no compression (a small answer could be a large one).

    Raises:
        httpx.ConnectError, httpx.ConnectTimeout: nothing was sent.
        RequestFailedError: it may have been.
    """
    host = request.url.raw_host.decode("ascii")
    message = httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers={
            **request.headers,
            "Host": request.url.netloc.decode("ascii"),
            "Accept-Encoding": "identity",
            "User-Agent": "execution-service",
        },
        content=request.body,
        extensions={"sni_hostname": host, "timeout": {"connect": CONNECT_SECONDS}},
    )
    async with httpx.AsyncHTTPTransport(verify=tls, trust_env=False) as transport:
        try:
            response = await transport.handle_async_request(message)
            try:
                return await _read(response, host, body_limit)
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except httpx.HTTPError as error:
            raise RequestFailedError(host, f"{type(error).__name__}: {error}".rstrip(": .")) from error


async def _read(response: httpx.Response, host: str, limit: int) -> Answer:
    coding = response.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise RequestFailedError(host, f"its body is encoded ({coding!r:.40}), though that was not accepted")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise RequestFailedError(host, f"its body has more than {limit:,} bytes (EXECUTION_STEPS_HTTP_BODY_BYTES)")
    return Answer(status=response.status_code, headers=dict(response.headers), body=bytes(body))
