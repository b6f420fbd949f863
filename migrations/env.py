"""Runs the migrations over asyncpg, one process at a time."""

import asyncio

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from execution.repository.tables import metadata

LOCK_KEY = 0x657865637574  # "execut": two migrations of one database wait for each other
CONNECT_TIMEOUT = 10.0


def run(connection: Connection) -> None:
    """Apply what is missing in one transaction, under a lock."""
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        context.run_migrations()


async def connect_and_run(url: str) -> None:
    """Open one connection for the migrations and close it whatever happens."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(url, timeout=CONNECT_TIMEOUT),
        poolclass=NullPool,
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
            await connection.commit()
    finally:
        await engine.dispose()


asyncio.run(connect_and_run(context.config.attributes["url"]))
