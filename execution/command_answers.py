"""Commands that are carried out once, and answered with the first answer however often they come.

The id of a command is a key as `Idempotency-Key` is one: kept in the same table, under the same fingerprint. What was
answered through one door is answered through the other. Where there is an effect, the answer is committed with it.

Trouble of ours is not an answer. While PostgreSQL is away, or somebody else carries out the same command, it is tried
again after a pause, for as long as that takes: the command is safe in its topic.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TypeVar

import orjson
import structlog

from execution.access_errors import IdempotencyKeyInProgressError
from execution.domain.execution import Execution
from execution.errors import (
    DatabaseUnavailableError,
    ExecutionServiceError,
    OutcomeUnknownError,
    SchemaMismatchError,
    ServiceClosedError,
    VersionConflict,
)
from execution.idempotency import DECISIONS, SOON_SECONDS
from execution.incoming_command import IncomingCommand
from execution.keyed_answer import Answer, KeyedRequest
from execution.presentation import etag, execution_document, linked, location
from execution.problems import MEDIA_TYPE, problem_document
from execution.service import ExecutionService
from execution.shielded import to_its_end

log = structlog.get_logger(__name__)

T = TypeVar("T")

HOLD_SECONDS = 10.0
"""Time for one attempt at a command. As long as the session of a consumer's group: whoever is given the partition of
one that died need not wait for what that one held. An attempt that takes longer is made again, under the same id."""
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.1, 5.0
"""Seconds until a command is tried again; they double."""
_TROUBLE = (
    DatabaseUnavailableError,
    OutcomeUnknownError,
    SchemaMismatchError,
    ServiceClosedError,
    IdempotencyKeyInProgressError,
    VersionConflict,
)


@dataclass
class CommandTally:
    """What a process has done with commands."""

    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By command and status."""
    replayed: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    """By the code of the reason."""
    tried_again: int = 0
    """Attempts that trouble of ours has ended."""
    waiting: int = 0
    """Commands that wait for the end of trouble now."""
    waiting_since: float | None = None
    """Since when any does, on the monotonic clock."""


class CommandAnswers:
    """Carries out commands, each once."""

    def __init__(self, tally: CommandTally) -> None:
        self._tally = tally

    async def answer(
        self, service: ExecutionService, tenant_id: str, command_id: str, command: IncomingCommand
    ) -> tuple[Answer, bool]:
        """The answer, and whether it was given before.

        Args:
            service: as the sender's tenant sees it.

        Raises:
            ExecutionServiceError: a refusal that is not kept, so that the same command may be sent again.
        """
        keys = service.idempotency_keys

        async def attempt() -> tuple[Answer, bool]:
            held = await keys.reserve(tenant_id, command_id, command.fingerprint, seconds=HOLD_SECONDS)
            if isinstance(held, Answer):
                return held, True
            keyed = KeyedRequest(held)
            answer = await self._carry_out(service, keyed, command)
            return keyed.kept or await keys.remember(held, answer), False

        return await self.patiently(attempt)

    async def patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What an attempt gives that is not ended by trouble of ours."""
        back_off = FIRST_BACK_OFF
        while True:
            try:
                return await attempt()
            except _TROUBLE as error:
                self._begin_to_wait(error)
                least = min(getattr(error, "retry_after", 0.0), SOON_SECONDS)
            try:
                await asyncio.sleep(max(least, random.uniform(back_off / 2, back_off)))
            finally:
                self._end_to_wait()
            back_off = min(2 * back_off, LONGEST_BACK_OFF)

    async def _carry_out(self, service: ExecutionService, keyed: KeyedRequest, command: IncomingCommand) -> Answer:
        """What comes of it, within the time that the command is ours; kept along with the effect, if there is one."""
        keys, held = service.idempotency_keys, keyed.reservation
        answer_with = partial(execution_answer, is_new=command.submission is not None)
        try:
            async with asyncio.timeout(held.seconds_left):
                execution = await command.carry_out(
                    service, command_id=held.command_id, answer=keyed.answered_by(answer_with)
                )
        except TimeoutError:
            await keys.release(held)
            raise IdempotencyKeyInProgressError(held.key, SOON_SECONDS) from None
        except ExecutionServiceError as error:
            if error.status in DECISIONS and not error.retriable:
                return problem_answer(error, command.path)
            if error.retriable or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                await keys.release(held)
            else:
                await keys.forget(held)
            raise
        except BaseException:
            await to_its_end(keys.release(held))
            raise
        return answer_with(execution)

    def _begin_to_wait(self, error: ExecutionServiceError) -> None:
        self._tally.tried_again += 1
        self._tally.waiting += 1
        if self._tally.waiting_since is None:
            self._tally.waiting_since = time.monotonic()
            log.warning("commands.waiting", code=error.code, error=str(error))

    def _end_to_wait(self) -> None:
        self._tally.waiting -= 1
        if not self._tally.waiting:
            self._tally.waiting_since = None


def execution_answer(execution: Execution, *, is_new: bool) -> Answer:
    """What HTTP answers with the execution after a command."""
    headers = {"content-type": "application/json", "etag": etag(execution)}
    if is_new:
        headers["location"] = location(execution.id)
    status = HTTPStatus.ACCEPTED if is_new else HTTPStatus.OK
    return Answer(status=status, headers=headers, body=orjson.dumps(linked(execution_document(execution))))


def problem_answer(error: ExecutionServiceError, path: str | None) -> Answer:
    """What HTTP answers with an error."""
    body = orjson.dumps(problem_document(error) | {"instance": path, "request_id": None})
    return Answer(status=error.status, headers={"content-type": MEDIA_TYPE}, body=body)
