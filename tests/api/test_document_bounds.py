"""What a body is made of is counted before it is parsed."""

from __future__ import annotations

import json
import time
from random import Random
from typing import Any

import pytest

from execution.document_bounds import DocumentBounds
from execution.request_errors import DocumentTooComplexError

BOUNDS = DocumentBounds(depth=5, keys=20, values=30, strings=50)


def parts_of(document: Any) -> tuple[int, int]:
    """Its depth and the number of its keys, counted after parsing."""
    if isinstance(document, dict):
        inside, keys = list(document.values()), len(document)
    elif isinstance(document, list):
        inside, keys = document, 0
    else:
        return 0, 0
    below = [parts_of(one) for one in inside]
    return 1 + max((depth for depth, _ in below), default=0), keys + sum(count for _, count in below)


def a_document(chance: Random, depth: int) -> Any:
    choice = chance.randrange(4) if depth else 0
    if choice == 0:
        return chance.choice([1, True, None, 'a"b', "\\", "[[[[[[[", "{:,:,}", '\\"', "ü"])
    if choice == 1:
        return [a_document(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {f'{number}"[:{{,\\': a_document(chance, depth - 1) for number in range(chance.randrange(4))}


@pytest.mark.parametrize("escaped", [True, False])
def test_it_counts_as_a_parser_would(chance: Random, escaped: bool) -> None:
    outcomes = set()
    for _ in range(2000):
        document = a_document(chance, chance.randrange(9))
        depth, keys = parts_of(document)
        body = json.dumps(document, ensure_ascii=escaped).encode()
        bounds = DocumentBounds(depth=5, keys=20, values=10_000, strings=1000)
        refused = depth > 5 or keys > 20
        outcomes.add(refused)
        if refused:
            with pytest.raises(DocumentTooComplexError):
                bounds.check(body)
        else:
            bounds.check(body)
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"[" * 6, "levels"),
        (b'{"a":' * 6, "levels"),
        (b'[{"a":[{"b":[[]]}]}]', "levels"),
        (json.dumps({str(number): 1 for number in range(21)}).encode(), "keys"),
        (json.dumps(list(range(40))).encode(), "values"),
        (b"[" + b"[]," * 40, "values"),
        (b'["' + b"a" * 60 + b'"]', "bytes in one string"),
        (b'{"' + b"a" * 60, "bytes in one string"),
    ],
)
def test_each_bound(body: bytes, what: str) -> None:
    with pytest.raises(DocumentTooComplexError, match=what):
        BOUNDS.check(body)


@pytest.mark.parametrize(
    "body", [b"", b"]]]]]]]]]", b'"' * 49, b'{"a": "[[[[[[[[[[[[["}', b"\x00\xff\xfe", b'"' + b"\\" * 40, b"[[[[[]]]]]"]
)
def test_what_it_leaves_to_the_parser(body: bytes) -> None:
    BOUNDS.check(body)


@pytest.mark.parametrize(
    "body",
    [b'"' + b'\\"' * 2_000_000, b'\\"' * 2_000_000, b"[" * 4_000_000, b'"",' * 1_300_000, b'{"":' * 1_000_000],
    ids=["an unclosed string", "no string", "brackets", "strings", "objects"],
)
def test_four_megabytes_take_no_more_than_a_moment(body: bytes) -> None:
    began = time.process_time()
    with pytest.raises(DocumentTooComplexError):
        DocumentBounds().check(body)
    assert time.process_time() - began < 2.0  # a quadratic pass would take minutes
