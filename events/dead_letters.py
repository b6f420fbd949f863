"""Dead letters: records that nothing can be made of, put aside as they came, with where from and why."""

from __future__ import annotations

from typing import Any

from events.codec import Record

PREFIX = "dlq-"
LARGEST_VALUE = 1_048_576
LARGEST_HEAD = 65_536
LONGEST_MESSAGE = 2_000
ROOM = LARGEST_HEAD + 16_384
"""Bytes that a dead letter may have beside its value."""


def dead_letter(record: Any, *, group: str, code: str, message: str) -> Record:
    """A consumed record as a dead letter. What is far too large is cut, and says so: it must never hold up the others.

    Args:
        code: the reason for programs; `message` is for people.
    """
    value, headers = record.value or b"", list(record.headers)
    facts = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "group": group,
        "error": code,
        "message": message[:LONGEST_MESSAGE],
    }
    if len(value) > LARGEST_VALUE:
        facts["cut-from"] = len(value)
        value = value[:LARGEST_VALUE]
    if sum(len(name) + len(one or b"") for name, one in headers) > LARGEST_HEAD:
        facts["headers-left-out"] = len(headers)
        headers = []
    added = [(f"{PREFIX}{name}", str(fact).encode()) for name, fact in facts.items()]
    key = record.key or b""
    return Record(key[:LONGEST_MESSAGE], value, [*((name, one or b"") for name, one in headers), *added])
