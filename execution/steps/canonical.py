"""Canonical JSON (RFC 8785) and digests of it: one text for one value, so that equal values have equal digests."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import rfc8785

from execution.steps.errors import BrokenEvidenceError
from execution.steps.frozen import MAX_SAFE_INTEGER


def canonical(value: Any) -> bytes:
    """The value as canonical JSON. Values that `frozen.py` lets through can always be said."""
    return rfc8785.dumps(value)


def digest(content: bytes) -> str:
    """What these bytes are known by."""
    return f"sha256:{sha256(content).hexdigest()}"


def digest_of(value: Any) -> str:
    """The digest of the value's canonical JSON."""
    return digest(canonical(value))


def read_canonical(content: bytes) -> Any:
    """The value that these bytes say in canonical JSON.

    Raises:
        BrokenEvidenceError: they are not JSON, or say it in another way than the canonical one; it names the byte.
    """
    value = _read(content)
    try:
        expected = canonical(value)
    except (ValueError, RecursionError) as error:
        raise BrokenEvidenceError("the document", f"it holds what canonical JSON cannot say: {error}") from None
    if expected != content:
        raise BrokenEvidenceError(
            _byte(_first_difference(content, expected)),
            f"this is not canonical JSON: {len(expected):,} bytes would say the same, and these are {len(content):,}",
        )
    return value


def _read(content: bytes) -> Any:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise BrokenEvidenceError(_byte(error.start), f"this is not UTF-8: {error.reason}") from None
    try:
        return json.loads(text, parse_int=_number, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise BrokenEvidenceError(_byte(len(text[: error.pos].encode())), f"this is not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise BrokenEvidenceError("the document", f"this is not JSON: {error}") from None


def _number(digits: str) -> float:
    """Canonical JSON writes large floating-point numbers without a point, too."""
    number = float(digits)
    return int(digits) if abs(number) <= MAX_SAFE_INTEGER else number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(one), len(other)))


def _byte(offset: int) -> str:
    return f"byte {offset}"
