"""Requests under a key of their sender's: carried out once, and answered with the first answer however often they come.

    reserve ──► carry out under the reservation's command id, and keep the answer
       │                │
       │                ├─ nothing was done: forget the key
       │                └─ nobody knows: release it, for a repetition under the same command id
       └─► an answer is there: that answer

A reservation is committed before the effect, and the effect carries the reservation's command id in its own statement.
The answer to a single change is committed in one transaction with it (`KeyedAnswer`), so that whoever is killed leaves
both behind or neither. Where the answer is known only after a wait, that one is provisional: nobody is given it while
the holder has time, and `remember` puts the one that is given in its place. What tells of no effect `remember` keeps
for itself. A repetition takes the reservation of who died before over as soon as its time has passed, and sends the
commands again under the same id: what is in the log under it already is answered with its first outcome. Until then,
and while the request is under way, a repetition is asked to wait.

A holder has to stop when its time has passed (`Reservation.expires_at`): what it decided later could contradict what
its successor has answered. The part knows nothing of HTTP: a command from a bus has its id as the key.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from hashlib import sha256
from http import HTTPStatus
from random import uniform
from typing import TypeAlias

import orjson
import structlog

from execution.access_errors import IdempotencyKeyInProgressError, IdempotencyKeyReusedError
from execution.errors import DatabaseError
from execution.keyed_answer import Answer, Reservation
from execution.repository.database import Database
from execution.repository.idempotency_keys import IdempotencyKeyStore, KeyFacts

log = structlog.get_logger(__name__)

Replay: TypeAlias = Answer
"""The first answer, to be given again."""

HOLD_SECONDS = 30.0
"""Time to carry out a request. Above what a write may take when PostgreSQL is away for a moment, and what a repetition
has to wait for after a crash."""
PURGE_SECONDS = 60.0
PURGE_BATCH = 500
PAUSE_SECONDS = 0.05
"""Between two batches of a purge that finds more."""
SOON_SECONDS = 1.0
"""When to come again where the holder is expected to be done any moment."""
DECISIONS = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED})
"""Refusals that are decisions on an execution, and kept; whatever else is refused may be mended and sent again."""
_ROUNDS = 10
"""How often a key that changes hands between two looks is looked at again."""


class IdempotencyKeys:
    """Who may carry out a request under a key, and what was answered to it. Tenants have keys of their own.

    Args:
        keep_hours: how long after its first use a key and its answer are known.
    """

    def __init__(self, db: Database, *, keep_hours: float) -> None:
        self._store = IdempotencyKeyStore(db, keep_seconds=keep_hours * 3600)

    async def reserve(
        self, tenant_id: str, key: str, fingerprint: bytes, *, seconds: float = HOLD_SECONDS
    ) -> Reservation | Replay:
        """Reserve the key for `seconds`, or be given the answer of the request it was used for.

        `fingerprint`: 32 bytes that are the same for the same request, and for no other.

        Raises:
            IdempotencyKeyReusedError: it was used for another request.
            IdempotencyKeyInProgressError: its request is being carried out.
            DatabaseUnavailableError: the caller may send the request again.
        """
        for _ in range(_ROUNDS):
            reservation = await self._store.reserve(tenant_id, key, fingerprint, seconds)
            if reservation is not None:
                return reservation
            facts = await self._store.read(tenant_id, key)
            if facts is None or facts.is_expired or (answer := _known(facts, key, fingerprint)) is None:
                continue
            if not facts.is_provisional or await self._store.settle(tenant_id, key):
                return answer
        raise IdempotencyKeyInProgressError(key, SOON_SECONDS)

    async def remember(self, reservation: Reservation, answer: Answer) -> Answer:
        """Keep an answer that did not go along with its effect, before it is given; twice the same one is once.

        Returns the one to give: of a successor that took over, or the provisional one that somebody was given when the
        holder's time had passed, if there is one.

        Raises:
            IdempotencyKeyInProgressError: a successor has taken over and has not answered yet.
            DatabaseUnavailableError: it was not kept; a repetition will make it anew from the first outcome.
        """
        if await self._store.answer(reservation, answer):
            return answer
        facts = await self._store.read(reservation.tenant_id, reservation.key)
        log.warning("idempotency_key.taken_over", command_id=str(reservation.command_id))
        if (
            facts is None
            or facts.answer is None
            or facts.is_provisional
            or facts.fingerprint != reservation.fingerprint
        ):
            raise IdempotencyKeyInProgressError(reservation.key, SOON_SECONDS)
        return facts.answer

    async def release(self, reservation: Reservation) -> None:
        """Let a repetition take over at once, under the same command id: what was done under it may have had an effect.

        Never fails: what cannot be released now is open when its time has passed.
        """
        try:
            await self._store.release(reservation)
        except DatabaseError as error:
            log.warning("idempotency_key.not_released", command_id=str(reservation.command_id), error=str(error))

    async def forget(self, reservation: Reservation) -> None:
        """The request was refused as it stands, so that the key may be used for one that was mended. Never fails.

        Only who held the key first can know that nothing was done under it; a successor releases it instead.
        """
        if not reservation.is_first:
            return await self.release(reservation)
        try:
            await self._store.forget(reservation)
        except DatabaseError as error:
            log.warning("idempotency_key.not_forgotten", command_id=str(reservation.command_id), error=str(error))

    async def run(self) -> None:
        """Remove expired keys now and then, until cancelled. Processes that all do so are not in each other's way."""
        while True:
            await asyncio.sleep(PURGE_SECONDS * uniform(0.5, 1.0))
            try:
                await self.purge()
            except DatabaseError as error:
                log.warning("idempotency_keys.waiting_for_database", error=str(error))

    async def purge(self) -> int:
        """Remove every expired key, in small batches; how many there were."""
        removed = 0
        while batch := await self._store.purge(PURGE_BATCH):
            removed += batch
            await asyncio.sleep(PAUSE_SECONDS)
        return removed


def fingerprint_of(method: str, path: str, *, query: str = "", if_match: str = "", body: bytes) -> bytes:
    """The same for the same request, through whichever door, and however its JSON is spelled."""
    with suppress(ValueError):  # what is no JSON will be refused; until then its bytes tell it from others
        document = orjson.loads(body)
        body = orjson.dumps(document, option=orjson.OPT_SORT_KEYS) if document else b""
    digest = sha256()
    for part in (method.encode(), path.encode(), query.encode(), if_match.encode(), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _known(facts: KeyFacts, key: str, fingerprint: bytes) -> Answer | None:
    """The answer under a key that was not free; None if it has become free meanwhile."""
    if facts.fingerprint != fingerprint:
        raise IdempotencyKeyReusedError(key)
    if (facts.answer is None or facts.is_provisional) and facts.locked_seconds > 0:
        raise IdempotencyKeyInProgressError(key, min(SOON_SECONDS, facts.locked_seconds))
    return facts.answer
