"""What a topic holds, compared with the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from events.codec import EventCodec
from events.envelope import Envelope
from tests.support.delayed_writers import log_of
from tests.support.kafka import administrator, read_topic
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually

Key = tuple[str, int]
SOON = 20.0


@dataclass(frozen=True)
class Published:
    """Every event on the topic, in the order of each partition; read by the codec, so each is well-formed."""

    events: Sequence[Envelope]

    @property
    def keys(self) -> list[Key]:
        return [(one.subject, one.sequence) for one in self.events]

    @property
    def repeats(self) -> int:
        return len(self.events) - len(set(self.keys))

    def assert_in_order(self) -> None:
        """After repeats are dropped, as a consumer drops them, each execution's versions go 1, 2, 3."""
        last: dict[str, int] = {}
        for execution, version in self.keys:
            before = last.get(execution, 0)
            assert version <= before + 1, f"{execution}: {version} after {before}"
            last[execution] = max(before, version)


async def published(servers: str, topic: str, **options: Any) -> Published:
    """What is on the topic now; nothing while there is none."""
    records = await read_topic(servers, topic, **options) if await has_topic(servers, topic, **options) else []
    codec = EventCodec()
    for record in records:
        assert record.key == codec.decode(record.value, record.headers).subject.encode()
    return Published([codec.decode(record.value, record.headers) for record in records])


async def has_topic(servers: str, topic: str, **options: Any) -> bool:
    """Has somebody created it?"""
    async with administrator(servers, **options) as admin, asyncio.timeout(SOON):
        return topic in await admin.list_topics()


async def all_published(servers: str, topic: str, sql: AnyConnection, *, within: float, **options: Any) -> Published:
    """The topic once it holds all that is in the log; nothing else, and in order."""
    wanted = await log_of(sql)

    async def whole() -> Published | None:
        found = await published(servers, topic, **options)
        return found if wanted <= set(found.keys) else None

    found = await eventually(whole, within=within, what="the whole log on the topic")
    assert set(found.keys) == wanted
    found.assert_in_order()
    return found
