"""The key ring over a real table: who is let in, who no more, and what is kept of a key."""

from __future__ import annotations

import string
import time
from binascii import crc32
from collections.abc import Callable
from datetime import timedelta

import asyncpg
import pytest

from execution.access_errors import ApiKeyMissingError, ApiKeyNotFoundError, InvalidApiKeyError
from execution.errors import InvalidDocumentError, SettingsError
from execution.key_token import KeyToken
from execution.keys import KeyRing, NewKey, is_loopback
from execution.principal import Principal, Scope
from execution.repository.database import Database
from execution.settings import Settings
from tests.support.waiting import eventually

DEAD_WITHIN = 5.0
OWN = "0123456789abcdefghijklmnopqrstuv"


@pytest.fixture
def ring(database: Database) -> KeyRing:
    return KeyRing(database, Settings())


async def created(ring: KeyRing, *, expires_in: timedelta | None = None) -> NewKey:
    return await ring.create("ci", tenant_id="acme", scopes=[Scope.WRITE], expires_in=expires_in)


async def refusal(ring: KeyRing, token: str) -> str:
    with pytest.raises(InvalidApiKeyError) as caught:
        await ring.authenticate(token)
    assert token[17:] not in str(caught.value)
    return str(caught.value)


def forged(prefix: str) -> str:
    """A well-formed key with that public part: the checksum is no secret."""
    unchecked = prefix + KeyToken.new().text[len(prefix) : -6]
    number, checksum = crc32(unchecked.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        checksum = (string.digits + string.ascii_uppercase + string.ascii_lowercase)[digit] + checksum
    return unchecked + checksum


class TestAccepted:
    async def test_a_key_stands_for_its_tenant_scopes_and_name(self, ring: KeyRing) -> None:
        new = await created(ring)
        principal = await ring.authenticate(new.token)
        assert principal == Principal(tenant_id="acme", scopes=frozenset({Scope.WRITE}), name="ci", key_id=new.key.id)
        assert principal.actor == "key:ci"

    async def test_the_secret_is_kept_nowhere(self, ring: KeyRing, database_url: str) -> None:
        new = await created(ring)
        connection = await asyncpg.connect(database_url)
        row = await connection.fetchval("SELECT api_keys::text FROM api_keys")
        await connection.close()
        assert new.key.prefix in row
        assert new.token[17:] not in row
        assert new.token[17:] not in repr(new)
        assert new.token[17:] not in repr(await ring.list_keys())

    async def test_the_one_of_the_settings_may_do_everything(self, database: Database) -> None:
        ring = KeyRing(database, Settings(api_key=OWN, tenant_id="acme"))
        assert await ring.authenticate(OWN) == Principal(tenant_id="acme", scopes=frozenset(Scope), name="settings")
        assert (await ring.authenticate((await created(ring)).token)).name == "ci"
        with pytest.raises(InvalidApiKeyError, match="form of a key"):
            await ring.authenticate(OWN + "w")


class TestRefused:
    async def test_a_key_that_nobody_created(self, ring: KeyRing) -> None:
        assert "it is unknown" in await refusal(ring, KeyToken.new().text)

    async def test_a_public_part_with_another_secret(self, ring: KeyRing) -> None:
        new = await created(ring)
        assert "it is unknown" in await refusal(ring, forged(new.key.prefix))

    async def test_a_revoked_one_here_at_once_and_elsewhere_in_time(self, ring: KeyRing, database: Database) -> None:
        new, elsewhere = await created(ring), KeyRing(database, Settings())
        await ring.authenticate(new.token)
        await elsewhere.authenticate(new.token)
        assert (await ring.revoke(new.key.prefix)).revoked_at is not None
        assert "it was revoked" in await refusal(ring, new.token)

        async def refused() -> bool:
            try:
                await elsewhere.authenticate(new.token)
            except InvalidApiKeyError:
                return True
            return False

        await eventually(refused, within=DEAD_WITHIN, what="the other process refuses the key")

    async def test_an_expired_one_though_it_was_just_seen(self, ring: KeyRing, database: Database) -> None:
        new = await created(ring, expires_in=timedelta(days=1))
        await ring.authenticate(new.token)
        database.clock.synchronize(database.clock.now() + timedelta(days=1), time.monotonic())
        assert "it has expired" in await refusal(ring, new.token)


class TestNoKey:
    async def test_without_any_key_everybody_is_the_settings_tenant(self, ring: KeyRing) -> None:
        assert await ring.authenticate(None) == Principal(tenant_id="default", scopes=frozenset(Scope))
        assert (await ring.authenticate(None)).actor == "client"
        assert not await ring.check_exposure()

    async def test_the_first_key_counts_here_at_once_and_elsewhere_in_time(
        self, ring: KeyRing, database: Database
    ) -> None:
        elsewhere = KeyRing(database, Settings())
        await elsewhere.authenticate(None)
        await ring.authenticate(None)
        await created(ring)
        with pytest.raises(ApiKeyMissingError):
            await ring.authenticate(None)
        await eventually(lambda: needs_a_key(elsewhere), within=DEAD_WITHIN, what="the other process needs a key")

    async def test_revoking_the_last_one_does_not_open_the_door(self, ring: KeyRing, database: Database) -> None:
        await ring.revoke((await created(ring)).token)
        assert await needs_a_key(KeyRing(database, Settings()))
        assert await ring.check_exposure()

    async def test_nor_does_deleting_their_rows_while_a_server_runs(self, ring: KeyRing, database: Database) -> None:
        await created(ring)
        assert await needs_a_key(ring)
        await database.pool.execute("DELETE FROM api_keys")
        ring.forget()
        assert await needs_a_key(ring)

    async def test_the_key_of_the_settings_counts(self, database: Database) -> None:
        ring = KeyRing(database, Settings(api_key=OWN))
        assert await needs_a_key(ring)
        assert await ring.check_exposure()

    async def test_other_machines_are_never_served_without_one(self, database: Database) -> None:
        ring = KeyRing(database, Settings(host="0.0.0.0"))
        assert await needs_a_key(ring)
        with pytest.raises(SettingsError, match=r"EXECUTION_HOST \(0.0.0.0\).*execution keys create"):
            await ring.check_exposure()
        await created(ring)
        assert await ring.check_exposure()

    @pytest.mark.parametrize(
        ("host", "here"),
        [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True)]
        + [(host, False) for host in ("0.0.0.0", "::", "192.168.0.1", "example.org", "")],
    )
    def test_what_is_this_machine_only(self, host: str, *, here: bool) -> None:
        assert is_loopback(host) is here


async def needs_a_key(ring: KeyRing) -> bool:
    try:
        await ring.authenticate(None)
    except ApiKeyMissingError:
        return True
    return False


class TestHandingOut:
    async def test_lists_are_of_a_tenant_or_of_all(self, ring: KeyRing) -> None:
        first = await ring.create("a", tenant_id="acme", scopes=[Scope.READ])
        second = await ring.create("b", tenant_id="other", scopes=[Scope.ADMIN, Scope.READ])
        assert await ring.list_keys() == [first.key, second.key]
        assert await ring.list_keys("acme") == [first.key]
        assert second.key.scopes == (Scope.READ, Scope.ADMIN)

    @pytest.mark.parametrize(
        "name_it", [lambda new: str(new.key.id), lambda new: new.key.prefix, lambda new: new.token]
    )
    async def test_what_names_a_key_to_revoke(self, ring: KeyRing, name_it: Callable[[NewKey], str]) -> None:
        new, untouched = await created(ring), await created(ring)
        revoked = await ring.revoke(name_it(new))
        assert (await ring.revoke(name_it(new))).revoked_at == revoked.revoked_at
        assert {key.id: key.revoked_at for key in await ring.list_keys()} == {
            new.key.id: revoked.revoked_at,
            untouched.key.id: None,
        }

    async def test_revoking_what_is_not_there(self, ring: KeyRing) -> None:
        token = KeyToken.new()
        with pytest.raises(ApiKeyNotFoundError, match="keys list") as caught:
            await ring.revoke(token.text)
        assert token.text[17:] not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "tenant_id", "scopes"),
        [(name, "acme", [Scope.READ]) for name in ("", "a b", "-a", "a" * 64, "ä", "settings")]
        + [("a", tenant_id, [Scope.READ]) for tenant_id in ("", "a\0", "\ud800", "a" * 101)]
        + [("a", "acme", [])],
    )
    async def test_what_cannot_be(self, ring: KeyRing, name: str, tenant_id: str, scopes: list[Scope]) -> None:
        with pytest.raises(InvalidDocumentError):
            await ring.create(name, tenant_id=tenant_id, scopes=scopes)
        assert await ring.list_keys() == []


class TestUses:
    async def test_they_are_noted_but_not_each_of_them(self, ring: KeyRing) -> None:
        new, idle = await created(ring), await created(ring)
        async with ring:
            await ring.authenticate(new.token)
            first = await eventually(lambda: last_use(ring, new), within=5, what="the use is noted")
            await ring.authenticate(new.token)
        assert await last_use(ring, new) == first
        assert await last_use(ring, idle) is None

    async def test_the_last_ones_are_noted_on_a_stop(self, ring: KeyRing) -> None:
        new, other = await created(ring), await created(ring)
        async with ring:
            await ring.authenticate(new.token)
            await eventually(lambda: last_use(ring, new), within=5, what="the use is noted")
            await ring.authenticate(other.token)
            assert await last_use(ring, other) is None
        assert await last_use(ring, other) is not None


async def last_use(ring: KeyRing, new: NewKey) -> object:
    return next(key.last_used_at for key in await ring.list_keys() if key.id == new.key.id)
