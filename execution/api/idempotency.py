"""`Idempotency-Key`: a POST that is sent again is given the first answer, and does nothing twice.

The answer to a single change goes along with it and is committed in the same transaction (`RequestKey.answered_by`).
Where it is given only after a wait, what would be answered without one goes along, until the answer takes its place.
Under a key, a request on many executions is one transaction for itself. What has no effect is kept by a statement of
its own.

| what the request ended in | what is kept under its key |
|---|---|
| an answer (2xx), or a decision on the execution: 404, 409, 412 | the answer; a repetition is given it, marked `Idempotent-Replayed` |
| it was refused as it stands: 400, 413, 415, 422, 428, 429 | nothing: the key may be used for the request once it is mended |
| trouble inside: 5xx, too many changes at once, or either in part of a batch | the command's id: a repetition goes on under it at once |

Who sends is known before anything is kept, so 401 and 403 never get here.
"""  # noqa: E501 - the rows of the table

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from execution.access_errors import IdempotencyKeyInProgressError, InvalidIdempotencyKeyError
from execution.api.answers import UnfinishedAnswer
from execution.api.caller import GuardedRoute, Handler, principal_of
from execution.api.door import door_of
from execution.api.preferences import preferred_wait
from execution.api.problems import problem
from execution.domain.execution import Execution
from execution.errors import DatabaseError, ExecutionServiceError
from execution.idempotency import DECISIONS, SOON_SECONDS, IdempotencyKeys, fingerprint_of
from execution.keyed_answer import Answer, AnswerTo, KeyedAnswer, KeyedRequest, Reservation
from execution.shielded import to_its_end

T = TypeVar("T")

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
MAX_LENGTH = 255
_KEPT_HEADERS = ("content-type", "etag", "location", "preference-applied")


class _OnceRoute(APIRoute):
    """A route whose POSTs are carried out once for each key."""

    def get_route_handler(self) -> Handler:
        """The handler, behind the look at the key."""
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            key = _key_of(request) if request.method == "POST" else None
            if key is None:
                return await handle(request)
            await request.body()  # before anything is reserved: a client may stop in the middle of it
            # Whoever stops waiting for the answer, it is kept for the next time.
            return await to_its_end(_answer_once(request, key, handle))

        return handle_once


class IdempotentRoute(GuardedRoute, _OnceRoute):
    """A route that knows who calls, and then whether it has been called for the same thing before."""


class RequestKey:
    """The key that a request came under, for what is done for it. Of a request without one it holds nothing."""

    def __init__(self, keyed: KeyedRequest | None = None) -> None:
        self._keyed = keyed

    @property
    def command_id(self) -> UUID | None:
        """What every change that is made for the request has to carry."""
        return self._keyed.reservation.command_id if self._keyed else None

    def answered_by(self, respond: Callable[[Execution], Response], *, is_provisional: bool = False) -> AnswerTo | None:
        """What a change takes along: the response that the route is going to give once it is committed.

        A provisional one is for repetitions after a crash, where the route is going to give another one.
        """
        if self._keyed is None:
            return None
        return self._keyed.answered_by(lambda execution: _answer_of(respond(execution)), is_provisional=is_provisional)

    def answered_whole_by(self, respond: Callable[[T], Response]) -> Callable[[T], KeyedAnswer | None] | None:
        """The same of a request on many executions, which is carried out in one transaction for it."""
        if self._keyed is None:
            return None
        keyed = self._keyed

        def answer_to(outcome: T) -> KeyedAnswer | None:
            response = respond(outcome)
            return None if isinstance(response, UnfinishedAnswer) else keyed.takes(_answer_of(response))

        return answer_to


async def _request_key(
    request: Request,
    _: Annotated[
        str | None,
        Header(
            alias=HEADER,
            min_length=1,
            max_length=MAX_LENGTH,
            pattern=r"^[\x21-\x7e]+$",
            description="A key of your choice, new for each request. Sent again under the same key, "
            "the request is not carried out again but given its first answer.",
            examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
        ),
    ] = None,
) -> RequestKey:
    key: RequestKey = getattr(request.state, "key", None) or RequestKey()
    return key


OwnKey = Annotated[RequestKey, Depends(_request_key)]
"""The key of the request. Every route that changes something takes it, and hands on what it holds."""


def _key_of(request: Request) -> str | None:
    keys = request.headers.getlist(HEADER)
    if len(keys) > 1:
        raise InvalidIdempotencyKeyError(f"the request has {len(keys)} of them")
    if not keys:
        return None
    if not 1 <= len(keys[0]) <= MAX_LENGTH:
        raise InvalidIdempotencyKeyError(f"it has {len(keys[0])} characters")
    if not all("!" <= character <= "~" for character in keys[0]):
        raise InvalidIdempotencyKeyError("it has characters other than visible ASCII ones")
    return keys[0]


async def _answer_once(request: Request, key: str, handle: Handler) -> Response:
    keys = door_of(request).service.idempotency_keys
    tenant_id = principal_of(request).tenant_id
    held = await keys.reserve(tenant_id, key, await _fingerprint(request), seconds=_time_for(request))
    if isinstance(held, Answer):
        return _replayed(held)
    keyed = KeyedRequest(held)
    request.state.key = RequestKey(keyed)
    response = await _carry_out(request, keys, held, handle)
    return response if keyed.kept else await _keep(keys, held, response)


def _time_for(request: Request) -> float:
    """Seconds in which the request has to be answered: who sends it again waits no longer for one that has died."""
    patience = preferred_wait(request.headers.getlist("prefer")) or 0
    return door_of(request).settings.request_timeout_seconds + patience


async def _carry_out(request: Request, keys: IdempotencyKeys, held: Reservation, handle: Handler) -> Response:
    """The handler's answer, or the decision it was refused by; whatever else it raises, the key is let go."""
    try:
        return await _in_time(request, held, handle)
    except ExecutionServiceError as error:
        if error.status in DECISIONS and not error.retriable:
            return problem(error, request)
        await _let_go(keys, held, error.status, retriable=error.retriable)
        raise
    except RequestValidationError:
        await keys.forget(held)
        raise
    except HTTPException as error:
        await _let_go(keys, held, error.status_code)
        raise
    except BaseException:
        await keys.release(held)
        raise


async def _in_time(request: Request, held: Reservation, handle: Handler) -> Response:
    """The handler's answer; it is stopped when somebody else may take over."""
    limit = asyncio.timeout(held.seconds_left)
    try:
        async with limit:
            return await handle(request)
    except TimeoutError:
        if not limit.expired():
            raise
        raise IdempotencyKeyInProgressError(held.key, SOON_SECONDS) from None


async def _keep(keys: IdempotencyKeys, held: Reservation, response: Response) -> Response:
    """Keep what was answered; returns what to answer."""
    if isinstance(response, UnfinishedAnswer):
        await keys.release(held)
        return response
    if not (response.status_code < HTTPStatus.MULTIPLE_CHOICES or response.status_code in DECISIONS):
        await _let_go(keys, held, response.status_code)
        return response
    answer = _answer_of(response)
    try:
        kept = await keys.remember(held, answer)
    except DatabaseError:
        await keys.release(held)
        raise
    return response if kept is answer else _replayed(kept)


def _answer_of(response: Response) -> Answer:
    kept_headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return Answer(status=response.status_code, headers=kept_headers, body=bytes(response.body))


async def _let_go(keys: IdempotencyKeys, held: Reservation, status: int, *, retriable: bool = False) -> None:
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and not (retriable and status in DECISIONS):
        await keys.forget(held)
    else:
        await keys.release(held)


def _replayed(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers) | {REPLAYED: "true"})


async def _fingerprint(request: Request) -> bytes:
    """However long its sender is willing to wait: that is no part of what it asks for."""
    if_match = ", ".join(request.headers.getlist("if-match"))
    url = request.url
    return fingerprint_of(request.method, url.path, query=url.query, if_match=if_match, body=await request.body())
