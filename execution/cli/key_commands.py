"""`execution keys`: its commands, as declared; what they do is in `execution.cli.keys`, imported inside them."""
# ruff: noqa: PLC0415 - `--help` does not wait for the database driver

from __future__ import annotations

from typing import Annotated

import typer

from execution.cli.options import TO_OPERATE, AsJson
from execution.cli.running import run
from execution.principal import Scope

MAX_DAYS = 36_500


def add_key_commands(app: typer.Typer) -> None:
    """Declare them, as a group."""
    keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke the API keys of the HTTP server.")
    for command in (create, list_, revoke, signing_secret):
        keys.command(name=command.__name__.rstrip("_").replace("_", "-"))(command)
    app.add_typer(keys, name="keys", rich_help_panel=TO_OPERATE)


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is; the log names who did what by it.")],
    *,
    scope: Annotated[
        list[Scope], typer.Option(help="What it may do: write includes read, admin includes both. Repeatable.")
    ],
    tenant: Annotated[
        str | None, typer.Option(metavar="ID", help="For which tenant. Default: EXECUTION_TENANT_ID.")
    ] = None,
    expires: Annotated[
        int | None, typer.Option(min=1, max=MAX_DAYS, metavar="DAYS", help="Accept it for so long only.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key and print it: it is shown this once, and cannot be looked up."""
    from execution.cli.keys import create_key

    run(create_key(name, scopes=scope, tenant_id=tenant, days=expires, as_json=as_json), as_json=as_json)


def list_(
    *,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Only of this tenant.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the API keys, also those that are accepted no more."""
    from execution.cli.keys import list_keys

    run(list_keys(tenant, as_json=as_json), as_json=as_json)


def revoke(
    which: Annotated[str, typer.Argument(metavar="ID|PREFIX", help="Its id, or how it begins.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Accept an API key no more; servers know within 5 seconds."""
    from execution.cli.keys import revoke_key

    run(revoke_key(which, as_json=as_json), as_json=as_json)


def signing_secret(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="How the key begins, or `settings`.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Print what the owner of a key signs commands over Kafka with; needs EXECUTION_KAFKA_COMMANDS_SECRET."""
    from execution.cli.keys import show_signing_secret

    run(show_signing_secret(prefix, as_json=as_json), as_json=as_json)
