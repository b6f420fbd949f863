"""How an invocation ended, told as an outcome: never an exception of the telling itself."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from execution.domain.documents import to_document
from execution.domain.execution import JsonObject
from execution.domain.outcome import (
    MAX_MESSAGE_LENGTH,
    Cancelled,
    Failed,
    GivenBack,
    HandedOver,
    Interrupted,
    Invocation,
    Outcome,
    PartiallySucceeded,
    PartialSuccess,
    StopRequested,
    Succeeded,
    classify,
    describe,
)


def as_result(value: Any) -> JsonObject:
    return to_document(value, "the result")


def outcome_of(**invocation: Any) -> Outcome:
    return classify(Invocation(**invocation), as_result)


def error_of(**invocation: Any) -> JsonObject:
    outcome = outcome_of(**invocation)
    assert isinstance(outcome, Failed)
    return outcome.error


class NamedError(Exception):
    error_type = "billing.card_declined"


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that works")


class TestReturned:
    @pytest.mark.parametrize(
        ("value", "result"), [({"a": 1}, {"a": 1}), (None, {}), (5, {"value": 5}), ((1, 2), {"value": [1, 2]})]
    )
    def test_a_value_is_a_success(self, value: object, result: JsonObject) -> None:
        assert outcome_of(value=value) == Succeeded(result=result)

    def test_a_part_says_what_is_missing(self) -> None:
        assert outcome_of(value=PartialSuccess({"a": 1}, missing="page 7")) == PartiallySucceeded(
            result={"a": 1}, error={"type": "partial", "message": "page 7"}
        )

    def test_a_part_may_leave_open_what_is_missing(self) -> None:
        assert outcome_of(value=PartialSuccess([1])) == PartiallySucceeded(result={"value": [1]}, error=None)

    @pytest.mark.parametrize("asked", ["cancel_requested", "timed_out", "draining"])
    def test_what_finished_counts_even_if_it_was_asked_to_stop(self, asked: str) -> None:
        assert outcome_of(value={"a": 1}, **{asked: True}) == Succeeded(result={"a": 1})

    @pytest.mark.parametrize("value", [float("nan"), object(), {1: 2}, "\x00", PartialSuccess(object())])
    def test_what_cannot_be_stored_is_a_failure(self, value: object) -> None:
        error = error_of(value=value)
        assert error["type"] == "InvalidDocumentError"
        assert error["message"].startswith("the result cannot be accepted: ")

    def test_so_is_what_breaks_while_it_is_turned_into_a_document(self) -> None:
        def broken(_: object) -> JsonObject:
            raise ZeroDivisionError("division by zero")

        outcome = classify(Invocation(value=1), broken)
        assert outcome == Failed(error={"type": "ZeroDivisionError", "message": "division by zero"})

    @pytest.mark.parametrize("missing", ["nul \x00", "half a pair \ud800"])
    def test_what_is_missing_can_be_stored(self, missing: str) -> None:
        outcome = outcome_of(value=PartialSuccess({}, missing=missing))
        assert isinstance(outcome, PartiallySucceeded)
        assert is_storable(outcome.error)


class TestRaised:
    def test_an_exception_is_a_failure(self) -> None:
        assert error_of(exception=ValueError("no such page")) == {"type": "ValueError", "message": "no such page"}

    def test_an_exception_without_a_message_has_its_name(self) -> None:
        assert error_of(exception=ValueError()) == {"type": "ValueError", "message": "ValueError"}

    def test_an_exception_may_name_its_type(self) -> None:
        assert error_of(exception=NamedError("declined"))["type"] == "billing.card_declined"

    @pytest.mark.parametrize("stop", [asyncio.CancelledError(), StopRequested()])
    def test_stopping_when_asked_to_is_a_cancellation(self, stop: BaseException) -> None:
        assert outcome_of(exception=stop, cancel_requested=True) == Cancelled()

    @pytest.mark.parametrize("stop", [asyncio.CancelledError(), StopRequested()])
    def test_stopping_because_the_worker_stops_is_an_interruption(self, stop: BaseException) -> None:
        assert isinstance(outcome_of(exception=stop, draining=True), Interrupted)

    @pytest.mark.parametrize("stop", [asyncio.CancelledError(), StopRequested()])
    def test_stopping_unasked_is_a_failure(self, stop: BaseException) -> None:
        assert error_of(exception=stop)["type"] == type(stop).__name__

    def test_a_cancellation_counts_before_the_workers_stop(self) -> None:
        outcome = outcome_of(exception=asyncio.CancelledError(), cancel_requested=True, draining=True)
        assert outcome == Cancelled()

    @pytest.mark.parametrize("asked", ["cancel_requested", "draining"])
    def test_an_error_of_its_own_counts_whatever_was_asked(self, asked: str) -> None:
        assert error_of(exception=KeyError("k"), **{asked: True})["type"] == "KeyError"

    def test_what_is_handed_over_is_given_back_unless_its_time_was_over(self) -> None:
        assert outcome_of(exception=HandedOver("2 of 5"), draining=True) == GivenBack(reason="2 of 5")
        assert error_of(exception=HandedOver("2 of 5"), timed_out=True)["type"] == "start_to_close_timeout"

    @pytest.mark.parametrize("exception", [asyncio.CancelledError(), ValueError("while unwinding")])
    def test_past_its_time_it_is_a_timeout(self, exception: BaseException) -> None:
        error = error_of(exception=exception, timed_out=True, cancel_requested=True, draining=True)
        assert error["type"] == "start_to_close_timeout"


class TestDescribe:
    def test_a_long_message_is_cut(self) -> None:
        assert len(describe(ValueError("x" * 100_000))["message"]) == MAX_MESSAGE_LENGTH

    @pytest.mark.parametrize("text", ["nul \x00", "half a pair \ud800", "\udcff undecodable file name"])
    def test_whatever_the_message_it_can_be_stored(self, text: str) -> None:
        error = describe(ValueError(text))
        assert is_storable(error)
        assert "\ufffd" in error["message"]

    def test_whatever_the_type_it_can_be_stored(self) -> None:
        error = ValueError("m")
        error.error_type = "half a pair \ud800"  # type: ignore[attr-defined]
        assert is_storable(describe(error))

    def test_an_exception_that_cannot_say_what_it_is_still_has_a_name(self) -> None:
        assert describe(MuteError()) == {"type": "MuteError", "message": "MuteError"}


def is_storable(document: JsonObject | None) -> bool:
    """Can it be encoded, and does PostgreSQL take it?"""
    return b"\\u0000" not in orjson.dumps(document)
