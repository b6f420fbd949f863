"""An extractive summariser: the sentences that say most of what a text is about. Pure, without a model to load."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from execution.builtin.english import sentence_ends, sentences_in, term_of, words_in
from execution.domain.execution import JsonObject

MODEL = "extractive-summarizer"
DEFAULT_SENTENCES = 3
MAX_KEY_TERMS = 8
OPENING_BONUS = 1.25
"""What a text is about is mostly said at its beginning."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Sentences in the order of the text, and its key terms, most frequent first."""

    sentences: tuple[str, ...]
    key_terms: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences as one text."""
        return " ".join(self.sentences)


def summarize(text: str, max_sentences: int = DEFAULT_SENTENCES) -> Summary:
    """At most `max_sentences` different sentences of the text, and its key terms; empty for a text without words."""
    if max_sentences < 1:
        raise ValueError(f"max_sentences must be at least 1, not {max_sentences}")
    sentences = _whole(list(dict.fromkeys(sentences_in(text))))
    weights = Counter(_terms(text))
    scores = [_score(sentence, weights, is_first=index == 0) for index, sentence in enumerate(sentences)]
    ranking = sorted(range(len(sentences)), key=lambda index: (-scores[index], index))
    return Summary(
        sentences=tuple(sentences[index] for index in sorted(ranking[:max_sentences])),
        key_terms=tuple(sorted(weights, key=lambda term: (-weights[term], term))[:MAX_KEY_TERMS]),
    )


def answer_model_request(payload: JsonObject) -> JsonObject:
    """The embedded model service's answer to a request `{"execution_id", "agent", "input": {"text", "max_sentences"}}`.

    Raises:
        ValueError: there is no text to summarise, or `max_sentences` is not a positive number.
    """
    text, max_sentences = _input_of(payload)
    summary = summarize(text, max_sentences)
    return {
        "model": MODEL,
        "output": {
            "summary": summary.text,
            "sentences": list(summary.sentences),
            "key_terms": list(summary.key_terms),
        },
        "usage": {"input_words": len(words_in(text)), "output_words": len(words_in(summary.text))},
    }


def _input_of(payload: JsonObject) -> tuple[str, int]:
    request = payload.get("input")
    fields = request if isinstance(request, dict) else {}
    text = fields.get("text")
    if not isinstance(text, str) or not words_in(text):
        raise ValueError("input.text is missing or has no words: send the text to summarise")
    max_sentences = fields.get("max_sentences", DEFAULT_SENTENCES)
    if type(max_sentences) is not int or max_sentences < 1:
        raise ValueError(f"input.max_sentences must be a number of at least 1, not {max_sentences!r}")
    return text, max_sentences


def _whole(sentences: list[str]) -> list[str]:
    """Those that end as sentences do, so without headings; all of them where none does."""
    return [one for one in sentences if len(one) in sentence_ends(one)] or sentences


def _terms(text: str) -> list[str]:
    return [term for word in words_in(text) if (term := term_of(word))]


def _score(sentence: str, weights: Counter[str], *, is_first: bool) -> float:
    """The weight of its different terms over the root of its length: being long, or short, does not win by itself."""
    words = words_in(sentence)
    weight = sum(weights[term] for term in {term_of(word) for word in words} if term)
    return float(weight / len(words) ** 0.5 * (OPENING_BONUS if is_first else 1))
