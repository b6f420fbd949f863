"""The extractive summariser and the embedded model service's answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.builtin.english import sentence_ends, sentences_in, words_in
from execution.builtin.summarizer import answer_model_request, summarize

ARTICLE = """
The relay reads the event log and publishes every event. It was raining on Tuesday.
The relay keeps a cursor, so that every event in the log is published after a crash. Nobody had lunch.

Somebody mentioned a holiday. A log without a relay publishes no event.
"""

texts = st.text() | st.lists(
    st.sampled_from(["relay", "Event", "the", "log.", "No!", "Why?", "e.g.", "\n\n", "\n", "A.", "“Hm.”", "...", "é"]),
    max_size=60,
).map(" ".join)


def request(**fields: object) -> dict[str, object]:
    return {"execution_id": "1", "agent": {"id": "a", "model": "m", "instructions": ""}, "input": fields}


def test_it_picks_what_the_text_is_about_in_the_order_of_the_text() -> None:
    summary = summarize(ARTICLE, max_sentences=3)
    assert summary.sentences == (
        "The relay reads the event log and publishes every event.",
        "The relay keeps a cursor, so that every event in the log is published after a crash.",
        "A log without a relay publishes no event.",
    )
    assert summary.key_terms[:3] == ("event", "log", "relay")
    assert "the" not in summary.key_terms


@given(text=texts, max_sentences=st.integers(1, 6))
def test_a_summary_is_a_bounded_selection_of_the_sentences_in_order(text: str, max_sentences: int) -> None:
    sentences = sentences_in(text)
    summary = summarize(text, max_sentences)
    positions = [sentences.index(sentence) for sentence in summary.sentences]
    assert positions == sorted(set(positions))
    assert len(summary.sentences) == min(max_sentences, len(whole(sentences) or set(sentences)))
    assert all(term in words_in(text) or f"{term}'s" in words_in(text) for term in summary.key_terms)


def whole(sentences: list[str]) -> set[str]:
    return {one for one in sentences if [*sentence_ends(one)][-1:] == [len(one)]}


def test_a_heading_is_not_chosen_unless_there_is_nothing_else() -> None:
    assert summarize("# The relay\n\nThe relay publishes events.\n\nIt rests.", 3).sentences == (
        "The relay publishes events.",
        "It rests.",
    )
    assert summarize("The relay\n\nat rest", 3).sentences == ("The relay", "at rest")


@given(text=texts)
def test_sentences_hold_every_word_of_the_text_once_and_in_order(text: str) -> None:
    assert [word for sentence in sentences_in(text) for word in words_in(sentence)] == words_in(text)


@given(text=texts)
def test_sentences_are_taken_from_the_text_with_white_space_evened_out(text: str) -> None:
    evened = " ".join(text.split())
    assert all(sentence in evened for sentence in sentences_in(text))


def test_a_sentence_said_twice_is_chosen_once() -> None:
    assert summarize("Ship it now. Ship it now. Wait for me.", 3).sentences == ("Ship it now.", "Wait for me.")


def test_max_sentences_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        summarize("A text.", 0)


def test_the_model_service_answers_with_summary_terms_and_usage() -> None:
    answer = answer_model_request(request(text=ARTICLE, max_sentences=1))
    assert answer["model"] == "extractive-summarizer"
    assert answer["output"]["summary"] == "The relay reads the event log and publishes every event."
    assert answer["output"]["sentences"] == [answer["output"]["summary"]]
    assert answer["output"]["key_terms"][0] == "event"
    assert answer["usage"] == {"input_words": 47, "output_words": 10}


def test_without_a_number_of_sentences_it_chooses_three() -> None:
    assert len(answer_model_request(request(text=ARTICLE))["output"]["sentences"]) == 3


@pytest.mark.parametrize("fields", [{}, {"text": ""}, {"text": " \n"}, {"text": "?!"}, {"text": 5}])
def test_a_request_without_text_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"input\.text is missing or has no words"):
        answer_model_request(request(**fields))


def test_a_request_without_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"input\.text is missing"):
        answer_model_request({"execution_id": "1"})


@pytest.mark.parametrize("max_sentences", [0, -1, "3", 1.5, True, None])
def test_an_unfit_number_of_sentences_is_refused(max_sentences: object) -> None:
    with pytest.raises(ValueError, match=r"input\.max_sentences"):
        answer_model_request(request(text="A text.", max_sentences=max_sentences))
