"""`KeyRing`: the API keys. Hands them out, takes them back, and says who calls with one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from hmac import compare_digest
from ipaddress import ip_address
from typing import Self
from uuid import UUID

import structlog

from execution.access_errors import ApiKeyMissingError, ApiKeyNotFoundError, InvalidApiKeyError
from execution.errors import DatabaseError, InvalidDocumentError, SettingsError
from execution.ids import new_id
from execution.key_token import KeyToken, digest_of, prefix_of
from execution.lifecycle import kept_running
from execution.principal import Principal, Scope
from execution.recent_answers import RecentAnswers
from execution.repository.api_keys import ApiKey, ApiKeyStore
from execution.repository.database import Database
from execution.settings import Settings
from execution.shielded import to_its_end

log = structlog.get_logger(__name__)

RECENT_SECONDS = 3.0
"""How long what was found of a key is relied on: a revoked key is dead within 5 s, with the look at it included."""
REMEMBERED_KEYS = 10_000
USE_SECONDS = 60.0
LAST_USES_SECONDS = 2.0
"""What noting the last uses may take on a stop."""
ANSWER_SECONDS = 1.0
"""How long a caller without a key waits for the database to say that none is needed, once it has said so before."""
OWN_NAME = "settings"
"""What the log calls the key of `EXECUTION_API_KEY`."""

_EXPOSED = (
    "EXECUTION_HOST ({host}) lets other machines in, and there is no API key to know them by. Create one with "
    "`execution keys create`, set EXECUTION_API_KEY, or leave EXECUTION_HOST at 127.0.0.1"
)
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key that was just created: the only time that its text is there to be seen."""

    key: ApiKey
    token: str = field(repr=False)


class KeyRing:
    """The keys of the table and, if set, the one of the settings, which has every scope of the settings' tenant.

    As long as there has never been a key, the service on a loopback address serves everybody who reaches it, as the
    settings' tenant. From the first one on a key is needed, also on loopback, and also when all are revoked.

    `authenticate` works without `start`, which adds the note of when keys were used. Besides what each method names,
    every one may raise `DatabaseError`.
    """

    def __init__(self, db: Database, settings: Settings) -> None:
        self._settings = settings
        self._store = ApiKeyStore(db)
        self._clock = db.clock
        self._own = None if settings.api_key is None else digest_of(settings.api_key.get_secret_value())
        self._found = RecentAnswers(self._store.find, seconds=RECENT_SECONDS, limit=REMEMBERED_KEYS)
        self._any = RecentAnswers(self._any_exists, seconds=RECENT_SECONDS, limit=1)
        self._needed = self._own is not None or not is_loopback(settings.host)
        self._was_open = False
        """Was there no key when the database was last asked?"""
        self._accepted: set[str] = set()
        self._used: set[UUID] = set()
        self._in_use = asyncio.Event()
        self._stack = AsyncExitStack()

    # Life

    async def start(self) -> None:
        """Note from now on when keys are used."""
        self._stack.push_async_callback(self._found.stop)
        self._stack.push_async_callback(self._any.stop)
        self._stack.push_async_callback(self._note_last_uses)
        await self._stack.enter_async_context(kept_running("uses of keys", self._note_uses_for_ever))

    async def stop(self) -> None:
        """Note the last uses; a second stop does nothing."""
        await to_its_end(self._stack.aclose())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Handing out

    async def create(
        self, name: str, *, tenant_id: str, scopes: Iterable[Scope], expires_in: timedelta | None = None
    ) -> NewKey:
        """A new key, whose text is in the answer and nowhere else.

        Raises:
            InvalidDocumentError: a name or tenant that cannot be, or no scope.
        """
        granted = tuple(scope for scope in Scope if scope in set(scopes))
        _check(name, tenant_id, granted)
        token, now = KeyToken.new(), self._clock.now()
        key = ApiKey(
            id=new_id(),
            tenant_id=tenant_id,
            name=name,
            prefix=token.prefix,
            hash=token.digest,
            scopes=granted,
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
        )
        await self._store.add(key)
        self.forget()
        return NewKey(key=key, token=token.text)

    async def list_keys(self, tenant_id: str | None = None) -> list[ApiKey]:
        """The keys of a tenant, or of all of them, oldest first; also those that are accepted no more."""
        return await self._store.list_keys(tenant_id)

    async def revoke(self, which: str) -> ApiKey:
        """Accept the key of that id or prefix no more: here from now on, in other processes within 5 s.

        Raises:
            ApiKeyNotFoundError: there is none.
        """
        key = await self._store.revoke(_id_or_prefix(which))
        if key is None:
            raise ApiKeyNotFoundError(prefix_of(which) if which.startswith("exk_") else which)
        self.forget()
        return key

    # Asking for

    async def authenticate(self, token: str | None) -> Principal:
        """Who calls with this key.

        Raises:
            ApiKeyMissingError: with none, where one is needed.
            InvalidApiKeyError: it is mistyped, unknown, expired or revoked.
        """
        if token is None:
            return await self._anonymous()
        if self._is_own(token):
            return self._owner(OWN_NAME)
        key_token = KeyToken.parse(token)
        key = await self._found.get(key_token.prefix)
        if key is None or not compare_digest(key.hash, key_token.digest):
            raise InvalidApiKeyError("it is unknown")
        return self._admitted(key)

    async def principal_named(self, name: str) -> Principal:
        """Who has the key of that prefix, or `settings`; for callers who have proven in another way that it is theirs.

        Raises:
            InvalidApiKeyError: it is unknown, expired or revoked.
        """
        if name == OWN_NAME and self._own is not None:
            return self._owner(OWN_NAME)
        key = await self._found.get(name)
        if key is None:
            raise InvalidApiKeyError("it is unknown")
        return self._admitted(key)

    def _admitted(self, key: ApiKey) -> Principal:
        """Who has it, unless it is accepted no more."""
        if key.revoked_at is not None:
            raise InvalidApiKeyError("it was revoked")
        if key.is_expired(self._clock.now()):
            raise InvalidApiKeyError("it has expired")
        self._accepted.add(key.prefix)
        self._used.add(key.id)
        self._in_use.set()
        return key.principal

    def recalls(self, token: str) -> bool:
        """Will `authenticate` accept or refuse it without a look at the database, or has it been accepted before?"""
        prefix = prefix_of(token)
        if prefix in self._accepted or prefix in self._found or self._is_own(token):
            return True
        try:
            KeyToken.parse(token)
        except InvalidApiKeyError:
            return True
        return False

    def forget(self) -> None:
        """Look again at whatever is asked next."""
        self._found.forget()
        self._any.forget()

    async def check_exposure(self) -> bool:
        """Is a key needed now? To be asked, and the answer to be told, before the door opens.

        Raises:
            SettingsError: there is no key, and others than this machine could reach the door.
        """
        exists = self._own is not None or await self._store.any_exists()
        if not exists and not is_loopback(self._settings.host):
            raise SettingsError([_EXPOSED.format(host=self._settings.host)])
        return exists

    def _is_own(self, token: str) -> bool:
        return self._own is not None and compare_digest(self._own, digest_of(token))

    def _owner(self, name: str | None) -> Principal:
        return Principal(tenant_id=self._settings.tenant_id, scopes=frozenset(Scope), name=name)

    async def _anonymous(self) -> Principal:
        if self._needed or await self._is_needed():
            raise ApiKeyMissingError
        return self._owner(None)

    async def _is_needed(self) -> bool:
        """While the database does not answer, what it said last holds: nobody can have made a key there meanwhile."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS if self._was_open else None):
                return await self._any.get(None)
        except (DatabaseError, TimeoutError):
            if self._was_open:
                return False
            raise

    async def _any_exists(self, _question: None) -> bool:
        exists = await self._store.any_exists()
        self._needed, self._was_open = self._needed or exists, not exists
        return exists

    async def _note_uses_for_ever(self) -> None:
        while True:
            await self._in_use.wait()
            await self._note_uses()
            await asyncio.sleep(USE_SECONDS)

    async def _note_uses(self) -> None:
        self._in_use.clear()
        used, self._used = self._used, set()
        try:
            await self._store.note_uses(used)
        except DatabaseError as error:
            log.warning("keys.use_not_noted", keys=len(used), error=str(error))

    async def _note_last_uses(self) -> None:
        if self._used:
            try:
                async with asyncio.timeout(LAST_USES_SECONDS):
                    await self._note_uses()
            except TimeoutError:
                log.warning("keys.use_not_noted", error="the database did not answer in time")


def is_loopback(host: str) -> bool:
    """Does a door on this address open to this machine only? A name other than localhost may mean anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check(name: str, tenant_id: str, scopes: tuple[Scope, ...]) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidDocumentError("The key's name", "it is up to 63 letters, digits, '.', '_' and '-'")
    if name == OWN_NAME:
        raise InvalidDocumentError("The key's name", f"{OWN_NAME!r} is what the key of EXECUTION_API_KEY is called")
    if not 1 <= len(tenant_id) <= 100 or not tenant_id.isprintable():
        raise InvalidDocumentError("The key's tenant", "it is 1 to 100 characters that can be shown")
    if not scopes:
        raise InvalidDocumentError("The key", f"it needs a scope: {', '.join(Scope)}")


def _id_or_prefix(text: str) -> UUID | str:
    """A whole key names itself, too: what leaked is what one has at hand."""
    try:
        return UUID(text)
    except ValueError:
        return prefix_of(text)
