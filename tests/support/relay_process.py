"""`execution relay` in a process of its own, to be killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.cli_process import CliProcess, cli_process
from tests.support.worker_process import environment


@asynccontextmanager
async def relay_process(database_url: str, servers: str, topic: str, **changes: Any) -> AsyncIterator[CliProcess]:
    """Start one; killed at the end if it still runs."""
    # Beside other tests, one that stands back might wait for long.
    changes = {"relay_lease_seconds": 1, "poll_interval_seconds": 0.05, "relay_niceness": 0} | changes
    settings = environment(database_url, kafka_bootstrap_servers=servers, kafka_events_topic=topic, **changes)
    async with cli_process("relay", settings) as process:
        yield process
