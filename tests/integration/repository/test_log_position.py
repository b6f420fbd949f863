"""Positions as clients hold them: opaque words that come back as they went, and nothing else does."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from random import Random
from uuid import UUID

import pytest

from execution.errors import InvalidPositionError
from execution.repository.log_position import LogPosition, StreamPosition
from tests.support.stored import AnyConnection

ONE = UUID(int=7)
SNAPSHOTS = ["1:1:", "10:20:", "10:20:10", "10:20:10,15,19", "745:745:"]
NO_SNAPSHOTS = [
    "",
    "1:1",
    "20:10:",
    "10:20:9",
    "10:20:20",
    "10:20:15,12",
    "10:20:12,12",
    "0:1:",
    "1:9999999999999999999:",
    "a:b:",
    "\u0661:\u0662:",
    "1:2:3:4",
    "-1:2:",
    "1:2:\n",
]


def word(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("text", SNAPSHOTS)
async def test_it_reads_what_postgresql_writes(text: str, sql: AnyConnection) -> None:
    assert str(LogPosition.parse(text)) == text
    assert await sql.fetchval("SELECT $1::text::pg_snapshot::text", text) == text


@pytest.mark.parametrize("text", NO_SNAPSHOTS)
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        LogPosition.parse(text)


@pytest.mark.parametrize(
    ("xid", "expected"),
    [(5, "5:5:"), (11, "10:11:10"), (16, "10:16:10,15"), (20, "10:20:10,15,19"), (30, "10:20:10,15,19")],
)
def test_a_position_in_the_past_has_seen_only_what_was_before(xid: int, expected: str) -> None:
    assert str(LogPosition.parse("10:20:10,15,19").before(xid)) == expected


@pytest.mark.parametrize("text", SNAPSHOTS)
def test_it_comes_back_as_it_went(text: str) -> None:
    seen = LogPosition.parse(text)
    for position in (StreamPosition(seen), StreamPosition(seen, LogPosition(30, 30), (ONE, 4))):
        assert StreamPosition.decode(position.encode()) == position


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "!",
        "ä",
        "12",
        "=",
        "a" * 9000,
        word(""),
        word("10:20:|"),
        word("10:20:|10:20:|xyz|1"),
        word("10:20:|10:20:"),
        word(f"10:20:|30:30:|{ONE.hex}|0"),
        word(f"10:20:|30:30:|{ONE.hex}|9999999999"),
        word("x" * 100),
        word("10:20:9"),
    ],
)
def test_garbage_is_refused(garbage: str) -> None:
    with pytest.raises(InvalidPositionError):
        StreamPosition.decode(garbage)


async def test_what_is_not_refused_postgresql_understands(chance: Random, sql: AnyConnection) -> None:
    """Words that were tampered with, a thousand times: refused, or a snapshot to PostgreSQL as well."""
    whole = StreamPosition(LogPosition(10, 2000, (15, 100, 1999)), LogPosition(3000, 3000), (ONE, 4)).encode()
    understood = 0
    for _ in range(1000):
        at = chance.randrange(len(whole))
        tampered = whole[:at] + chance.choice("ABCabc012-_") + whole[at + chance.randint(0, 2) :]
        try:
            position = StreamPosition.decode(tampered)
        except InvalidPositionError:
            continue
        understood += 1
        assert position.read_to is not None
        for one in (position.seen, position.read_to):
            assert await sql.fetchval("SELECT $1::text::pg_snapshot::text", str(one)) == str(one)
    assert understood > 10
