"""Canonical JSON: one text for one value, by the examples of RFC 8785 and by properties."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.steps import BrokenEvidenceError
from execution.steps.canonical import canonical, digest_of, read_canonical
from execution.steps.frozen import freeze_object
from tests.steps.test_machine_properties import JSON


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("41b3de4355555553", "333333333.3333332"),
    ],
)
def test_numbers_of_the_rfc(bits: str, text: str) -> None:
    """Appendix B of RFC 8785: the bits of a double, and how it is written."""
    [number] = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number).decode() == text
    assert canonical(read_canonical(text.encode())).decode() == text


def test_keys_are_sorted_by_their_utf_16() -> None:
    """Section 3.2.3 of RFC 8785: a surrogate pair sorts before U+FB33."""
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\xf6": 7}
    assert [*json.loads(canonical(value)).values()] == [2, 4, 6, 7, 1, 5, 3]


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
@settings(max_examples=200, deadline=None)
def test_what_is_frozen_can_be_said_and_read_back(value: dict[str, Any]) -> None:
    content = canonical(freeze_object(value, "a value"))
    assert read_canonical(content) == value
    shuffled = {key: value[key] for key in reversed(value)}
    assert digest_of(shuffled) == digest_of(value)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"a":1} ', "byte 7"),
        (b'{"a": 1}', "byte 5"),
        (b'{"a":1}\n', "byte 7"),
        (b'{"a":1.0}', "byte 6"),
        (b'{"a":-0}', "byte 5"),
        (b'{"a":1e2}', "byte 6"),
        (b'{"b":1,"a":2}', "byte 2"),
        (b'{"a":1,"a":1}', "byte 6"),
        (b'{"a":"\\u0041"}', "byte 6"),
        (b'{"a":"\\/"}', "byte 6"),
        (b'{"a":9007199254740993}', "byte 20"),
        (b'{"a":"\xff"}', "byte 6"),
        ('{"é":x}'.encode(), "byte 6"),
        (b'\xef\xbb\xbf{"a":1}', "byte 0"),
        ('{"a":1}'.encode("utf-16"), "byte 0"),
        (b"", "byte 0"),
        (b'{"a":NaN}', "the document"),
        (b'{"a":1e999}', "the document"),
        (b'{"a":"\\ud800"}', "the document"),
        (b'{"\\ud800":1}', "the document"),
        (b"[" * 100_000, "the document"),
        (b"1" * 5_000, "the document"),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_what_is_not_canonical_is_named_by_its_byte(content: bytes, place: str) -> None:
    with pytest.raises(BrokenEvidenceError) as broken:
        read_canonical(content)
    assert broken.value.place == place


def test_equal_numbers_have_one_text() -> None:
    assert canonical([1.0, -0.0, 1e2]) == b"[1,0,100]"
    assert math.copysign(1, read_canonical(b"0")) == 1
