"""What may be kept as a JSON document, and that it comes back as it went in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel

from execution.domain.documents import DEFAULT_LIMIT, MAX_DEPTH, to_document
from execution.errors import DocumentTooLargeError, InvalidDocumentError
from tests.support.json_values import JSON, TEXTS


class Report(BaseModel):
    title: str
    made_on: date


@dataclass
class Point:
    x: float
    label: str = ""


class Poisoned(Enum):
    NUMBER = math.nan
    TEXT = "\x00"


def document(value: Any, limit: int = DEFAULT_LIMIT) -> dict[str, Any]:
    return to_document(value, "the result", limit)


def nested(levels: int, innermost: object) -> Any:
    value = innermost
    for _ in range(levels):
        value = {"in": value}
    return value


class TestShapes:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, {}),
            ({}, {}),
            ([], {"value": []}),
            (0, {"value": 0}),
            (False, {"value": False}),
            ("", {"value": ""}),
            ([1], {"value": [1]}),
            ({"a": (1, (2,))}, {"a": [1, [2]]}),
            (Report(title="t", made_on=date(2025, 1, 1)), {"title": "t", "made_on": "2025-01-01"}),
            (RootModel[list[int]]([1, 2]), {"value": [1, 2]}),
            ({"id": UUID(int=1)}, {"id": "00000000-0000-0000-0000-000000000001"}),
            ({"point": Point(1.5, "p")}, {"point": {"x": 1.5, "label": "p"}}),
            ({"most": 2**64 - 1, "least": -(2**63)}, {"most": 2**64 - 1, "least": -(2**63)}),
            ({"\N{GRINNING FACE}": "\N{GRINNING FACE}"}, {"\N{GRINNING FACE}": "\N{GRINNING FACE}"}),
        ],
    )
    def test_every_value_becomes_an_object(self, value: object, expected: dict[str, Any]) -> None:
        assert document(value) == expected

    @given(st.dictionaries(TEXTS, JSON))
    def test_json_comes_back_as_it_went_in(self, value: dict[str, Any]) -> None:
        assert document(value) == value
        assert orjson.loads(orjson.dumps(document(value))) == value

    def test_what_is_stored_is_a_copy(self) -> None:
        inner: list[int] = []
        stored = document({"inner": inner})
        inner.append(1)
        assert stored == {"inner": []}


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            ({"x": math.nan}, "nan is not a JSON number"),
            ({"x": [math.inf]}, "inf is not a JSON number"),
            ({"x": (-math.inf,)}, "-inf is not a JSON number"),
            ({"x": Point(math.nan)}, "nan is not a JSON number"),
            ({"x": [Point(1, "\x00")]}, "NUL"),
            ({"x": Poisoned.NUMBER}, "nan is not a JSON number"),
            ({"x": Poisoned.TEXT}, "NUL"),
            ({"x": "a\x00b"}, "NUL"),
            ({"a\x00b": 1}, "NUL"),
            ({"x": {"y": ["\x00"]}}, "NUL"),
            ({1: "x"}, "str"),
            ({"x": {None: 1}}, "str"),
            ({"x": 2**64}, "64-bit"),
            ({"x": -(2**63) - 1}, "64-bit"),
            ({"x": "\ud800"}, "surrogates"),
            ({"\udfff": 1}, "surrogates"),
            ({"x": {1, 2}}, "not JSON serializable"),
            ({"x": b"bytes"}, "not JSON serializable"),
        ],
    )
    def test_what_json_or_postgresql_cannot_keep(self, value: object, problem: str) -> None:
        with pytest.raises(InvalidDocumentError, match=problem) as caught:
            document(value)
        assert str(caught.value).startswith("the result cannot be accepted: ")

    def test_a_model_with_a_number_that_is_none(self) -> None:
        class Measured(BaseModel):
            value: float

        with pytest.raises(InvalidDocumentError, match="nan"):
            document(Measured(value=math.nan))

    @pytest.mark.parametrize("innermost", [{}, []])
    def test_as_deep_as_allowed(self, innermost: object) -> None:
        value = nested(MAX_DEPTH - 1, innermost)
        assert document(value) == value

    def test_deeper_than_allowed(self) -> None:
        with pytest.raises(InvalidDocumentError, match="more than 64 levels"):
            document(nested(MAX_DEPTH + 1, {}))

    def test_a_cycle(self) -> None:
        cycle: dict[str, object] = {}
        cycle["self"] = cycle
        with pytest.raises(InvalidDocumentError, match="levels deep"):
            document(cycle)

    def test_larger_than_allowed(self) -> None:
        assert document({"x": "é"}, limit=len('{"x":"é"}'.encode())) == {"x": "é"}
        with pytest.raises(DocumentTooLargeError, match=r"has 10 bytes as JSON; at most 9 ") as caught:
            document({"x": "é"}, limit=9)
        assert (caught.value.size, caught.value.limit, caught.value.status) == (10, 9, 413)
