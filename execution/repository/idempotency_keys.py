"""The `idempotency_keys` table: which requests are under way or answered under a key of their sender's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

from execution.errors import DatabaseUnavailableError
from execution.ids import new_id
from execution.keyed_answer import Answer, KeyedAnswer, Reservation
from execution.repository.batches import answer_arguments
from execution.repository.database import Database
from execution.repository.gathering import Gathering
from execution.repository.reading import fetch, fetch_row
from execution.repository.records import from_json

T = TypeVar("T")

PATIENCE_SECONDS = 10.0
"""How long a statement is repeated while PostgreSQL cannot be reached."""
_DELAYS = (0.05, 0.1, 0.2, 0.5)
"""Seconds between the repetitions; the last one repeats."""


@dataclass(frozen=True, kw_only=True)
class KeyFacts:
    """A key as it is. `locked_seconds`: how long its holder may still take, negative if that time has passed."""

    fingerprint: bytes
    answer: Answer | None
    is_provisional: bool
    """May the holder still give another answer? Nobody has been given this one."""
    locked_seconds: float
    is_expired: bool


class IdempotencyKeyStore:
    """Statements on keys. Every method may raise `DatabaseUnavailableError` or `DatabaseError`.

    All may be repeated: what is written is told apart by the lock token, so a lost answer does no harm.
    """

    def __init__(self, db: Database, *, keep_seconds: float) -> None:
        self._db = db
        self._keep_seconds = keep_seconds
        self._reservations: Gathering[Reservation, Reservation | None] = Gathering("reservations", self._reserve_all)
        self._answers: Gathering[KeyedAnswer, bool] = Gathering("answers", self._answer_all, limit=50)

    async def reserve(self, tenant_id: str, key: str, fingerprint: bytes, seconds: float) -> Reservation | None:
        """Reserve a key that nobody holds, and that has no answer yet or only an expired one; None: it is not free."""
        wanted = Reservation(
            tenant_id=tenant_id,
            key=key,
            fingerprint=fingerprint,
            command_id=new_id(),
            lock_token=new_id(),
            seconds=seconds,
            # From before the statement: by the database's clock the lock ends later, never earlier.
            expires_at=time.monotonic() + seconds,
        )
        return await self._reservations.ask(wanted)

    async def read(self, tenant_id: str, key: str) -> KeyFacts | None:
        """A key as it is; None if there is none."""
        row = await fetch_row(self._db, "read_idempotency_key", tenant_id, key, self._keep_seconds)
        if row is None:
            return None
        answer = None
        if row["status"] is not None:
            answer = Answer(status=row["status"], headers=from_json(row["headers"]), body=row["body"])
        return KeyFacts(
            fingerprint=row["fingerprint"],
            answer=answer,
            is_provisional=row["is_provisional"],
            locked_seconds=row["locked_seconds"],
            is_expired=row["is_expired"],
        )

    async def answer(self, reservation: Reservation, answer: Answer) -> bool:
        """Keep the answer and open the lock; False if the reservation is no longer the holder's, or settled."""
        return await self._answers.ask(KeyedAnswer(reservation, answer))

    async def settle(self, tenant_id: str, key: str) -> bool:
        """Make the provisional answer of a holder whose time has passed the one that is given; False: there is none."""
        return bool(await fetch(self._db, "settle_idempotency_key", tenant_id, key))

    async def release(self, reservation: Reservation) -> None:
        """Open the lock: a repetition takes over under the same command id, or is given the provisional answer."""
        await fetch(self._db, "release_idempotency_key", *_lock_of(reservation))

    async def forget(self, reservation: Reservation) -> None:
        """Remove the key, as if it had never been used."""
        await fetch(self._db, "forget_idempotency_key", *_lock_of(reservation))

    async def purge(self, limit: int) -> int:
        """Remove expired keys, the oldest first; how many there were, at most `limit`."""
        return len(await fetch(self._db, "purge_idempotency_keys", self._keep_seconds, limit))

    async def _reserve_all(self, wanted: Sequence[Reservation]) -> list[Reservation | None]:
        # One statement can touch a row once. Who asks for the same key later in the batch has lost against the first.
        first: dict[tuple[str, str], Reservation] = {}
        for one in wanted:
            first.setdefault((one.tenant_id, one.key), one)
        batch = [first[key] for key in sorted(first)]
        rows = await _patiently(
            lambda: fetch(
                self._db,
                "reserve_idempotency_keys",
                [one.tenant_id for one in batch],
                [one.key for one in batch],
                [one.fingerprint for one in batch],
                [one.command_id for one in batch],
                [one.lock_token for one in batch],
                [one.seconds for one in batch],
                self._keep_seconds,
            )
        )
        command_ids = {row["lock_token"]: row["command_id"] for row in rows}
        return [_reserved(one, command_ids.get(one.lock_token)) for one in wanted]

    async def _answer_all(self, answers: Sequence[KeyedAnswer]) -> list[bool]:
        arguments = answer_arguments(answers)
        rows = await _patiently(lambda: fetch(self._db, "answer_idempotency_keys", *arguments))
        kept = {row["lock_token"] for row in rows}
        return [one.reservation.lock_token in kept for one in answers]


def _reserved(wanted: Reservation, command_id: UUID | None) -> Reservation | None:
    if command_id is None:
        return None
    if command_id == wanted.command_id:
        return wanted
    return replace(wanted, command_id=command_id, is_first=False)


def _lock_of(reservation: Reservation) -> tuple[str, str, UUID]:
    return reservation.tenant_id, reservation.key, reservation.lock_token


async def _patiently(send: Callable[[], Awaitable[T]]) -> T:
    """Send a statement that may be repeated, again while PostgreSQL cannot be reached."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    attempt = 0
    while True:
        try:
            return await send()
        except DatabaseUnavailableError:
            delay = _DELAYS[min(attempt, len(_DELAYS) - 1)]
            if time.monotonic() + delay > give_up_at:
                raise
        attempt += 1
        await asyncio.sleep(delay)
