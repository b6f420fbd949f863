"""JSON values that nobody can change: what a step is given and what it leaves behind, down to the last inner list.

They are still a `dict` and a `list`, so that JSON encoders, pydantic models and comparisons take them as they are.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NoReturn

from execution.domain.documents import MAX_DEPTH
from execution.errors import InvalidDocumentError

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that every reader of JSON reads exactly, and that canonical JSON (RFC 8785) can say."""


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError("this is a read-only view of a step's data; change a copy of it, made by thaw(...)")


def _hash_of_object(self: dict[str, Any]) -> int:
    return hash(frozenset(self.items()))


def _hash_of_array(self: list[Any]) -> int:
    return hash(tuple(self))


class FrozenDict(dict[str, Any]):
    """A JSON object that cannot be changed."""

    __slots__ = ()

    __hash__: ClassVar[Any] = _hash_of_object
    __setitem__: Any = _refuse
    __delitem__: Any = _refuse
    __ior__: Any = _refuse
    clear: Any = _refuse
    pop: Any = _refuse
    popitem: Any = _refuse
    setdefault: Any = _refuse
    update: Any = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return freeze_object, (thaw(self), "a copy")


class FrozenList(list[Any]):
    """A JSON array that cannot be changed."""

    __slots__ = ()

    __hash__: ClassVar[Any] = _hash_of_array
    __setitem__: Any = _refuse
    __delitem__: Any = _refuse
    __iadd__: Any = _refuse
    __imul__: Any = _refuse
    append: Any = _refuse
    clear: Any = _refuse
    extend: Any = _refuse
    insert: Any = _refuse
    pop: Any = _refuse
    remove: Any = _refuse
    reverse: Any = _refuse
    sort: Any = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _freeze, (thaw(self), MAX_DEPTH)


EMPTY = FrozenDict()


def freeze_object(value: Any, what: str) -> FrozenDict:
    """A frozen copy of a JSON object; `what` names it in the error.

    Raises:
        InvalidDocumentError: not an object, or one that holds what canonical JSON cannot say.
    """
    if type(value) is FrozenDict:
        return value
    if value == {} and isinstance(value, dict):
        return EMPTY
    if not isinstance(value, dict):
        raise InvalidDocumentError(what, f"a JSON object is needed, and it is of type {type(value).__name__}")
    try:
        return FrozenDict({_freeze_key(key): _freeze(inner, MAX_DEPTH - 1) for key, inner in value.items()})
    except _UnsayableError as error:
        raise InvalidDocumentError(what, str(error)) from None


def thaw(value: Any) -> Any:
    """A copy of a frozen (or ordinary) JSON value that can be changed."""
    if isinstance(value, dict):
        return {key: thaw(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(inner) for inner in value]
    return value


def is_sayable(text: str) -> bool:
    """Can UTF-8 say it? What it cannot is half a character (a lone surrogate), as in undecodable file names."""
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)


class _UnsayableError(Exception):
    """A value that canonical JSON cannot say."""


def _freeze(value: Any, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _freeze_text(value)
    if isinstance(value, int | float):
        return _freeze_number(value)
    if depth == 0:
        raise _UnsayableError(f"it is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return FrozenDict({_freeze_key(key): _freeze(inner, depth - 1) for key, inner in value.items()})
    if isinstance(value, list | tuple):
        return FrozenList([_freeze(inner, depth - 1) for inner in value])
    raise _UnsayableError(f"it holds a {type(value).__name__}, which JSON does not know; make a text or a number of it")


def _freeze_key(key: Any) -> str:
    if not isinstance(key, str):
        raise _UnsayableError(f"the key {key!r} is not a text")
    return _freeze_text(key)


def _freeze_text(text: str) -> str:
    if not is_sayable(text):
        raise _UnsayableError("a text in it holds half a character (a lone surrogate)")
    return text if type(text) is str else str.__str__(text)


def _freeze_number(number: float) -> float:
    if isinstance(number, int):
        if not -MAX_SAFE_INTEGER <= number <= MAX_SAFE_INTEGER:
            raise _UnsayableError(f"{number} is beyond ±(2^53 - 1), where JSON is no longer exact; make a text of it")
        return int(number)
    if not math.isfinite(number):
        raise _UnsayableError(f"{number} is not a JSON number")
    return float(number)
