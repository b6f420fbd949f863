"""`execution keys create`, `list`, `revoke` and `signing-secret`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from rich.table import Table

from events.command_signature import signing_secret
from execution.cli.connection import client_settings
from execution.cli.output import answer, console, hint, print_json
from execution.domain.execution import JsonObject
from execution.errors import SettingsError
from execution.key_token import prefix_of
from execution.keys import KeyRing
from execution.presentation import printable
from execution.principal import Scope
from execution.repository.api_keys import ApiKey
from execution.settings import Settings
from execution.wiring import open_database


async def create_key(
    name: str, *, scopes: Sequence[Scope], tenant_id: str | None, days: int | None, as_json: bool
) -> None:
    """Create a key, and print it alone on standard output, so that a script can take it from there."""
    settings = client_settings()
    async with _key_ring(settings) as ring:
        new = await ring.create(
            name,
            tenant_id=tenant_id or settings.tenant_id,
            scopes=scopes,
            expires_in=None if days is None else timedelta(days=days),
        )
    if as_json:
        print_json(_document(new.key) | {"token": new.token})
        return
    console().print(new.token)
    hint(
        f"this is the only time it is shown; {printable(_summary(new.key))}. Revoke it with: "
        f"execution keys revoke {new.key.prefix}",
        as_json=as_json,
    )


async def list_keys(tenant_id: str | None, *, as_json: bool) -> None:
    """List the keys of a tenant, or of all of them."""
    async with _key_ring(client_settings()) as ring:
        keys = await ring.list_keys(tenant_id)
    answer({"items": [_document(key) for key in keys]}, _table(keys), as_json=as_json)


async def revoke_key(which: str, *, as_json: bool) -> None:
    """Accept a key no more; one that was revoked already stays as it is."""
    async with _key_ring(client_settings()) as ring:
        key = await ring.revoke(which)
    sentence = f"{key.prefix}  revoked {_day(key.revoked_at)}; servers refuse it within 5 s"
    answer(_document(key), sentence, as_json=as_json)


async def show_signing_secret(which: str, *, as_json: bool) -> None:
    """Print the secret alone on standard output, so that a script can take it from there."""
    settings = client_settings()
    if settings.kafka_commands_secret is None:
        raise SettingsError(["EXECUTION_KAFKA_COMMANDS_SECRET: must be set, signing secrets are derived from it"])
    prefix = prefix_of(which)
    async with _key_ring(settings) as ring:
        await ring.principal_named(prefix)  # refuses a key that nothing could be signed with
    secret = signing_secret(settings.kafka_commands_secret.get_secret_value(), prefix)
    answer({"key": prefix, "secret": secret}, secret, as_json=as_json)


@asynccontextmanager
async def _key_ring(settings: Settings) -> AsyncIterator[KeyRing]:
    async with open_database(settings) as database:
        yield KeyRing(database, settings)


def _document(key: ApiKey) -> JsonObject:
    return {
        "id": str(key.id),
        "tenant_id": key.tenant_id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": list(key.scopes),
        "created_at": _time(key.created_at),
        "expires_at": _time(key.expires_at),
        "revoked_at": _time(key.revoked_at),
        "last_used_at": _time(key.last_used_at),
    }


def _summary(key: ApiKey) -> str:
    until = f", until {_day(key.expires_at)}" if key.expires_at else ""
    return f"{key.name} may {', '.join(key.scopes)} for tenant {key.tenant_id}{until}"


def _table(keys: Sequence[ApiKey]) -> Table:
    table = Table("prefix", "name", "tenant", "scopes", "created", "expires", "revoked", "last used", box=None)
    for key in keys:
        moments = (key.created_at, key.expires_at, key.revoked_at, key.last_used_at)
        table.add_row(
            key.prefix, key.name, printable(key.tenant_id), " ".join(key.scopes), *(_day(moment) for moment in moments)
        )
    return table


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
