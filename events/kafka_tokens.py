"""Where the tokens of OAUTHBEARER come from: a file that somebody renews, or an endpoint that is asked for them.

aiokafka asks with each connection. After an `OSError` it goes on to the next broker, or tries again; so ours is one.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote_plus

import httpx
import orjson
import structlog
from aiokafka.abc import AbstractTokenProvider

from events.secret import Secret, UnreadableSecretError

log = structlog.get_logger(__name__)

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""As RFC 6750 has it; anything else could end the message to the broker early."""
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")
"""A code of RFC 6749, and no text in which an endpoint might repeat what it was sent."""
_LARGEST_ANSWER = 65_536
_MARGIN = 0.2
"""The part of a token's life that is left when it is renewed."""
_LONGEST_MARGIN_SECONDS = 60.0


class TokenError(OSError):
    """There is no token to log in with."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"no token for Kafka: {problem}")


class TokenProvider(Protocol):
    """Whom aiokafka asks for a token; an implementation is registered as one of its `AbstractTokenProvider`."""

    async def token(self) -> str:
        """A token that is valid now.

        Raises:
            TokenError: there is none.
        """

    def extensions(self) -> dict[str, str]:
        """What else the broker is told."""


@dataclass(frozen=True)
class TokenFile:
    """The token in a file, read with each connection; whoever renews it replaces the file."""

    file: Path

    async def token(self) -> str:
        """See `TokenProvider`."""
        try:
            text = await asyncio.to_thread(Secret.in_file(self.file).reveal)
        except UnreadableSecretError as error:
            raise TokenError(str(error)) from None
        return _checked(text, f"the file {self.file}")

    def extensions(self) -> dict[str, str]:
        """None."""
        return {}


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """A token that may be used again, and until when by the clock."""

    token: str = field(repr=False)
    renew_at: float
    valid_until: float


class ClientCredentials:
    """Tokens of an OAuth 2.0 endpoint, which knows this service by an id and a secret; kept until near their end.

    Args:
        url: of the token endpoint.
        scope: what the token is to be good for, as the endpoint calls it.
        ca_file: who may vouch for the endpoint; None: whom this system trusts.
        timeout: seconds that one answer may take.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        client_secret: Secret,
        scope: str | None = None,
        ca_file: Path | None = None,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._client_id = client_id
        self._client_secret = client_secret
        self._scope = scope
        self._ca_file = ca_file
        self._timeout = timeout
        self._clock = clock
        self._kept: _Kept | None = None
        self._asking = asyncio.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r}, client_id={self._client_id!r})"

    async def token(self) -> str:
        """See `TokenProvider`. One that is still valid is good enough where the endpoint does not answer."""
        async with self._asking:
            kept = self._kept
            if kept is not None and self._clock() < kept.renew_at:
                return kept.token
            try:
                return await self._renew()
            except TokenError as error:
                if kept is None or self._clock() >= kept.valid_until:
                    raise
                log.warning("kafka.token_not_renewed", error=str(error))
                return kept.token

    def extensions(self) -> dict[str, str]:
        """None."""
        return {}

    async def _renew(self) -> str:
        asked_at = self._clock()
        answer = await self._ask()
        token = _checked(answer.get("access_token"), self._url)
        seconds = answer.get("expires_in")
        if isinstance(seconds, int | float) and seconds > 0:
            margin = min(seconds * _MARGIN, _LONGEST_MARGIN_SECONDS)
            valid_until = asked_at + seconds
            self._kept = _Kept(token=token, renew_at=valid_until - margin, valid_until=valid_until)
        else:
            self._kept = None
        return token

    async def _ask(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout):
                status, content = await self._post()
        except TimeoutError:
            raise TokenError(f"{self._url} does not answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, UnreadableSecretError, OSError) as error:
            raise TokenError(f"{self._url}: {type(error).__name__}: {error}".rstrip(": ")) from None
        answer = _json_object(content)
        if status != httpx.codes.OK:
            code = str(answer.get("error", ""))
            raise TokenError(f"{self._url} answers {status}" + (f" ({code})" if _ERROR_CODE.fullmatch(code) else ""))
        return answer

    async def _post(self) -> tuple[int, bytes]:
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        secret = await asyncio.to_thread(self._client_secret.reveal)
        # RFC 6749, 2.3.1: both are form-encoded first.
        auth = (quote_plus(self._client_id), quote_plus(secret))
        context = ssl.create_default_context(cafile=self._ca_file)
        headers = {"Accept": "application/json"}
        async with (
            httpx.AsyncClient(verify=context, timeout=None) as client,  # noqa: S113 - the caller's covers everything
            client.stream("POST", self._url, data=form, auth=auth, headers=headers) as answer,
        ):
            content = b""
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > _LARGEST_ANSWER:
                    raise TokenError(f"{self._url} answers with more than {_LARGEST_ANSWER} bytes")
            return answer.status_code, content


AbstractTokenProvider.register(TokenFile)
AbstractTokenProvider.register(ClientCredentials)


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _checked(token: object, where: str) -> str:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise TokenError(f"what {where} gives is no token")
    return token
