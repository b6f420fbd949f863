"""JSON documents that PostgreSQL can keep: what callers and handlers hand over, checked before it is written."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from execution.domain.execution import JsonObject
from execution.errors import DocumentTooLargeError, InvalidDocumentError

DEFAULT_LIMIT = 262_144
"""Bytes of one document kept inline (256 KiB); larger content belongs into a store made for it."""

MAX_DEPTH = 64
"""Levels of nesting; deeper documents are an accident or an attack."""


def to_document(value: Any, what: str, limit: int = DEFAULT_LIMIT) -> JsonObject:
    """`value` as a JSON object that can be stored and read back unchanged.

    None becomes `{}`, a pydantic model its JSON form, anything but an object `{"value": ...}`.

    Raises:
        InvalidDocumentError: a key that is no string, a number that is not finite, NUL in a text, too deep, ...
        DocumentTooLargeError: more than `limit` bytes.
    """
    if not value and (value is None or value == {}):
        return {}
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    document: JsonObject = value if isinstance(value, dict) else {"value": value}
    # Read back, so that what runs now and what is read from the log later are the same (tuples are lists, and so on).
    restored: JsonObject = orjson.loads(_encoded(document, what, limit, is_finite=False))
    return restored


def checked_size(document: JsonObject, what: str, limit: int = DEFAULT_LIMIT) -> int:
    """The bytes of a document that is stored as it is: nobody changes it, and each of its numbers is finite.

    Raises:
        InvalidDocumentError, DocumentTooLargeError: as `to_document`.
    """
    return len(_encoded(document, what, limit, is_finite=True))


def document_size(document: JsonObject) -> int:
    """Bytes of a stored document as JSON."""
    return len(orjson.dumps(document))


def problems_of(error: ValidationError, whole: str) -> str:
    """What a model refuses, field by field; `whole` names the document where no single field is to blame."""
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or whole}: {one['msg'].removeprefix('Value error, ')}"
        for one in error.errors(include_url=False)
    )


def _encoded(document: JsonObject, what: str, limit: int, *, is_finite: bool) -> bytes:
    try:
        encoded = orjson.dumps(document)
    except (orjson.JSONEncodeError, RecursionError) as error:
        _check(document, what)  # may know better what is wrong
        raise InvalidDocumentError(what, str(error)) from None
    if _is_suspicious(encoded, is_finite):
        _check(document, what)
    if len(encoded) > limit:
        raise DocumentTooLargeError(what, len(encoded), limit)
    return encoded


def _is_suspicious(encoded: bytes, is_finite: bool) -> bool:
    """May the document hold what `_check` refuses? Asked of its text, in C, and not of every value in it."""
    if b"null" in encoded and not is_finite:
        return True
    if len(encoded) > MAX_DEPTH and encoded.count(b"{") + encoded.count(b"[") > MAX_DEPTH:
        return True
    return b"\\u0000" in encoded


def _check(document: JsonObject, what: str) -> None:
    """Refuse what orjson would alter silently (NaN becomes null) and what PostgreSQL cannot store (NUL)."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [inner for value in level for inner in _inner_values(value, what)]
    if level:
        raise InvalidDocumentError(what, f"it is nested more than {MAX_DEPTH} levels deep")


def _inner_values(value: Any, what: str) -> list[Any]:
    if isinstance(value, str):
        if "\x00" in value:
            raise InvalidDocumentError(what, "a text contains the NUL character")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidDocumentError(what, f"{value} is not a JSON number")
    elif value is None or isinstance(value, int):
        pass
    elif isinstance(value, dict):
        return [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        return list(value)
    # orjson encodes these two by what is in them, too.
    elif isinstance(value, Enum):
        return [value.value]
    elif is_dataclass(value):
        return [getattr(value, one.name) for one in fields(value)]
    return []
