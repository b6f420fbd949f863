"""`http.request`: sends one request to an origin that the service allows."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import httpx
from pydantic import Field, model_validator

from execution.errors import ExecutionServiceError
from execution.settings import Settings
from execution.steps.handlers.address_guard import AddressGuard, Resolver, SystemResolver
from execution.steps.handlers.http_exchange import Answer, Request, exchange
from execution.steps.handlers.parameters import StepParameters, parameters_of, target_of, time_limit
from execution.steps.handlers.refusals import (
    HeaderNotAllowedError,
    InvalidStepError,
    OriginNotAllowedError,
    RequestFailedError,
)
from execution.steps.handlers.secrets_kept import SecretsKept
from execution.steps.model import ExecutionContext, JobStep, StepOutput
from execution.steps_setting_types import origin_of

MOST_ADDRESSES = 4
"""How many addresses of a host are tried before it counts as not reachable."""
SHOWN_HEADERS = ("content-type", "date", "etag", "last-modified", "location", "retry-after", "x-request-id")
"""Headers of an answer that are kept: evidence is no place for cookies."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})

HeaderValue = Annotated[str, Field(pattern=r"^[\t\x20-\x7e]*$")]
Status = Annotated[int, Field(ge=200, le=599)]


class HttpParameters(StepParameters):
    """What is sent, which answers count as success (none named: 2xx), and how many redirects are followed."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: Mapping[str, HeaderValue] = Field(default_factory=dict)
    body: str = ""
    expected: tuple[Status, ...] = ()
    redirects: Annotated[int, Field(ge=0, le=5)] = 0

    @model_validator(mode="after")
    def _check_redirects(self) -> Self:
        if self.redirects and self.method not in ("GET", "HEAD"):
            raise ValueError("redirects are followed for GET and HEAD only")
        return self

    def is_expected(self, status: int) -> bool:
        """Does an answer with that status count as success?"""
        return status in self.expected if self.expected else 200 <= status <= 299


class HttpRequestHandler:
    """Sends a request to the step's target, a URL, and keeps the answer.

    Parameters: see `HttpParameters`. Output: `status`, `headers` (a few), `body` with `encoding` (`utf-8` or `base64`),
    `bytes`, `sha256`, `url` (where the answer came from, without its query), `seconds`. Secret headers that come back
    are taken out first. Each hop of a redirect is checked like the first address; secrets are for the step's own origin
    only. A step fails whose answer was not
    expected, came too late, or is too large; its request may have had its effect.
    """

    name = "http.request"
    version = "1"

    def __init__(self, settings: Settings, resolve: Resolver | None = None) -> None:
        self._settings = settings
        self._guard = AddressGuard(settings.steps_http_private_networks, resolve or SystemResolver())
        self._tls = _trusting(settings.steps_http_ca_file)
        of_origins = settings.steps_http_credentials.values()
        self._secrets = SecretsKept(value.get_secret_value() for headers in of_origins for value in headers.values())

    async def execute(self, step: JobStep, _context: ExecutionContext) -> StepOutput:
        """Send it; cancelled, the connection is cut.

        Raises:
            InvalidStepError, StepNotAllowedError, RequestFailedError
        """
        began = time.monotonic()
        parameters = parameters_of(step, HttpParameters)
        url = _parsed(step, target_of(step, "a URL"))
        seconds = time_limit(step, self._settings.steps_http_seconds)
        try:
            async with asyncio.timeout(seconds):
                came_from, answer = await self._follow(url, parameters)
        except TimeoutError:
            raise RequestFailedError(url.host, f"no whole answer came within {seconds:g} s") from None
        except ExecutionServiceError as error:
            # It may quote what came: a status line, a place to go to.
            if (told := self._secrets.out_of(str(error))) != str(error):
                raise RequestFailedError(url.host, f"what came repeats a secret ({told})") from None
            raise
        answer = _without(self._secrets, answer)
        shown = self._secrets.out_of(str(came_from.copy_with(query=None)))
        return _output(shown, answer, is_expected=parameters.is_expected(answer.status), began=began)

    async def _follow(self, url: httpx.URL, parameters: HttpParameters) -> tuple[httpx.URL, Answer]:
        asked = _origin(url)
        for _ in range(parameters.redirects):
            answer = await self._send(url, parameters, asked)
            if answer.status not in REDIRECTS or "location" not in answer.headers:
                return url, answer
            url = _joined(url, answer.headers["location"])
        return url, await self._send(url, parameters, asked)

    async def _send(self, url: httpx.URL, parameters: HttpParameters, asked: str) -> Answer:
        origin = _origin(url)
        if origin not in self._settings.steps_http_origins:
            raise OriginNotAllowedError(origin)
        headers = self._headers(parameters)
        if origin == asked:  # nobody else may say what is asked for in our name, or another's signed URL is spoilt
            secrets = self._settings.steps_http_credentials.get(origin, {})
            headers |= {name: value.get_secret_value() for name, value in secrets.items()}
        request = Request(method=parameters.method, url=url, headers=headers, body=parameters.body.encode())
        port = int(origin.rpartition(":")[2])
        addresses = await self._guard.addresses(url.raw_host.decode("ascii"), port)
        problem = ""
        for address in addresses[:MOST_ADDRESSES]:
            try:
                return await exchange(request, address, self._tls, body_limit=self._settings.steps_http_body_bytes)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent: the next one may be tried
                problem = f"{type(error).__name__}: {error}".rstrip(": .")
        raise RequestFailedError(url.host, problem)

    def _headers(self, parameters: HttpParameters) -> dict[str, str]:
        for name in parameters.headers:
            if name.lower() not in self._settings.steps_http_headers:
                raise HeaderNotAllowedError(name)
        return {name.lower(): value for name, value in parameters.headers.items()}


@cache
def _trusting(authorities: Path | None) -> ssl.SSLContext:
    """A client's TLS; made once, because reading the authorities of the public web takes a while."""
    return ssl.create_default_context(cafile=authorities) if authorities else httpx.create_ssl_context()


def _origin(url: httpx.URL) -> str:
    return origin_of(url.scheme, url.raw_host.decode("ascii"), url.port)


def _parsed(step: JobStep, target: str) -> httpx.URL:
    try:
        url = httpx.URL(target)
    except (httpx.InvalidURL, UnicodeError):
        raise InvalidStepError(step.step_type, "its target is not a URL") from None
    if url.userinfo or not url.raw_host or url.scheme not in ("http", "https"):
        raise InvalidStepError(step.step_type, "its target must be a URL with http or https, a host, and no password")
    return url.copy_with(fragment=None)


def _joined(url: httpx.URL, location: str) -> httpx.URL:
    try:
        joined = url.join(location).copy_with(fragment=None)
    except (httpx.InvalidURL, UnicodeError):
        raise RequestFailedError(url.host, "it redirects to what is not a URL") from None
    if joined.userinfo or not joined.raw_host:
        raise RequestFailedError(url.host, "it redirects to a URL with a password, or without a host")
    return joined


def _without(secrets: SecretsKept, answer: Answer) -> Answer:
    headers = {name: secrets.out_of(value) for name, value in answer.headers.items() if name in SHOWN_HEADERS}
    return Answer(status=answer.status, headers=headers, body=secrets.out_of_bytes(answer.body))


def _output(url: str, answer: Answer, *, is_expected: bool, began: float) -> StepOutput:
    try:
        body, encoding = answer.body.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        body, encoding = "", "base64"
    if encoding == "base64" or "\x00" in body:  # PostgreSQL stores no NUL
        body, encoding = base64.b64encode(answer.body).decode("ascii"), "base64"
    output = {
        "status": answer.status,
        "headers": dict(answer.headers),
        "body": body,
        "encoding": encoding,
        "bytes": len(answer.body),
        "sha256": hashlib.sha256(answer.body).hexdigest(),
        "url": url,
        "seconds": round(time.monotonic() - began, 6),
    }
    error = None if is_expected else f"the answer has status {answer.status}, which was not expected"
    return StepOutput(success=is_expected, output=output, error=error)
