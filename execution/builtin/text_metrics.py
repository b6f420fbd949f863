"""Counting a text as it streams by: characters, lines, paragraphs, sentences, words, terms."""

from __future__ import annotations

from collections import Counter

from execution.builtin.english import LONGEST_TERM, sentence_ends, syllables_in, term_of, words_in

MAX_UNIQUE_WORDS = 500_000
"""How many different words are told apart (about 60 MB); what comes later counts as words only."""


class TextMetrics:
    """The counts so far. Feed it pieces that end with a line or between two words; then call `finish`."""

    def __init__(self, max_unique_words: int = MAX_UNIQUE_WORDS) -> None:
        self.characters = 0
        self.lines = 0
        self.paragraphs = 0
        self.sentences = 0
        self.words = 0
        self.syllables = 0
        self.unique_words_complete = True
        self._max_unique_words = max_unique_words
        self._counts: Counter[str] = Counter()
        self._in_line = self._in_paragraph = self._in_sentence = False

    def add(self, piece: str) -> None:
        """Count one more piece; line ends are `\\n`."""
        self.characters += len(piece)
        self.lines += not self._in_line
        if piece.strip():
            self.paragraphs += not self._in_paragraph
            self._in_paragraph = True
            self._add_sentences(piece)
        elif not self._in_line:
            self._end_paragraph()
        self._in_line = not piece.endswith("\n")

    def finish(self) -> None:
        """The text has ended, and with it its last sentence."""
        self._end_paragraph()

    @property
    def unique_words(self) -> int:
        """How many different words there are, as far as they were told apart."""
        return len(self._counts)

    @property
    def reading_ease(self) -> float | None:
        """Flesch: about 0 (very hard) to 100 (very easy); None without words."""
        if not self.words:
            return None
        return 206.835 - 1.015 * self.words / self.sentences - 84.6 * self.syllables / self.words

    @property
    def grade(self) -> float | None:
        """Flesch-Kincaid: years of school needed; None without words."""
        if not self.words:
            return None
        return 0.39 * self.words / self.sentences + 11.8 * self.syllables / self.words - 15.59

    def most_frequent_terms(self, count: int) -> list[tuple[str, int]]:
        """The terms used most, with how often; stop words, numbers and single letters are none."""
        terms: Counter[str] = Counter()
        for word, times in self._counts.items():
            if term := term_of(word):
                terms[term] += times
        return sorted(terms.items(), key=lambda item: (-item[1], item[0]))[:count]

    def _add_sentences(self, piece: str) -> None:
        start = 0
        for end in sentence_ends(piece):
            self._add_words(piece[start:end])
            self._end_sentence()
            start = end
        self._add_words(piece[start:])

    def _add_words(self, text: str) -> None:
        words = words_in(text)
        self._in_sentence = self._in_sentence or bool(words)
        self.words += len(words)
        for word in words:
            self.syllables += syllables_in(word)
            self._tell_apart(word[:LONGEST_TERM])

    def _tell_apart(self, word: str) -> None:
        if word in self._counts or len(self._counts) < self._max_unique_words:
            self._counts[word] += 1
        else:
            self.unique_words_complete = False

    def _end_sentence(self) -> None:
        self.sentences += self._in_sentence
        self._in_sentence = False

    def _end_paragraph(self) -> None:
        self._end_sentence()
        self._in_paragraph = False
