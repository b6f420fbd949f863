"""Asking brokers about themselves, and telling them what topics there shall be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient

from events.kafka_closing import CLOSE_SECONDS, start_client
from events.kafka_connection import KafkaConnection


@asynccontextmanager
async def administrator(connection: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connected, for as long as one thing may take; everything in the block has to be done by then.

    Raises:
        KafkaError, OSError, TimeoutError: no answer, or a refusal.
    """
    admin = AIOKafkaAdminClient(**connection.options())
    try:
        async with asyncio.timeout(connection.timeout):
            await start_client(admin)
            yield admin
    finally:
        async with asyncio.timeout(CLOSE_SECONDS):
            await admin.close()


async def count_brokers(connection: KafkaConnection) -> int:
    """How many brokers the cluster has; they let us in.

    Raises:
        KafkaError, OSError, TimeoutError: no answer, or a refusal.
    """
    async with administrator(connection) as admin:
        return len((await admin.describe_cluster())["brokers"])
