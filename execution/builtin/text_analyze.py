"""Kind `text.analyze`: how long, how readable and about what a real text file is."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field, field_validator

from execution.builtin.text_metrics import TextMetrics
from execution.builtin.text_pieces import TextPieces
from execution.errors import InvalidRequestError
from execution.files_roots import FilesRoots
from execution.handlers import TaskContext

MAX_FILE_BYTES = 64 * 1024 * 1024
REPORT_EVERY_BYTES = 128 * 1024
"""How often progress is reported: after some 30 ms of work."""

WORDS_PER_MINUTE = 238
"""Silent reading of English non-fiction by adults, the mean of many studies."""


class TextParameters(BaseModel):
    """Which file, how to decode it, and how many terms to name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(min_length=1, max_length=4096)
    top: int = Field(default=20, ge=0, le=200)
    encoding: str = Field(default="utf-8", max_length=64)

    @field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, encoding: str) -> str:
        try:
            "a".encode(encoding)
        except (LookupError, ValueError):
            raise ValueError(f"{encoding!r} is not a text encoding; use for instance 'utf-8' or 'latin-1'") from None
        return encoding


class Term(BaseModel):
    """A term and how often it is used."""

    term: str
    count: int


class TextAnalysis(BaseModel):
    """The figures of a text. A line end counts as one character; without words there is no readability."""

    path: str
    bytes: int
    characters: int
    words: int
    unique_words: int
    unique_words_complete: bool
    sentences: int
    lines: int
    paragraphs: int
    average_sentence_words: float | None
    syllables: int
    flesch_reading_ease: float | None
    flesch_kincaid_grade: float | None
    reading_time_seconds: float
    terms: list[Term]
    undecodable_bytes: int


class FileTooLargeError(InvalidRequestError):
    """The text file exceeds what is read in one go."""

    code = "file_too_large"
    status = 413

    def __init__(self, requested: str, size: int) -> None:
        super().__init__(
            f"File {requested!r} has {size:,} bytes; text.analyze reads at most {MAX_FILE_BYTES:,}. "
            "Split it and analyse the parts."
        )


class TextAnalyze:
    """The handler; it reads only below the files roots."""

    def __init__(self, roots: FilesRoots) -> None:
        self._roots = roots

    def run(self, context: TaskContext, parameters: TextParameters) -> TextAnalysis:
        """Analyse a text file: counts, readability, most frequent terms."""
        with self._roots.open_requested(parameters.path) as file:
            size = os.fstat(file.fileno()).st_size
            _refuse_too_large(parameters.path, size)
            context.progress(0, "reading")
            pieces = TextPieces(file, parameters.encoding)
            metrics = _measure(context, parameters.path, pieces, size)
            analysis = _analysis(parameters, metrics, pieces)
        context.progress(100, f"{metrics.words:,} words")
        return analysis


def _measure(context: TaskContext, requested: str, pieces: TextPieces, size: int) -> TextMetrics:
    metrics = TextMetrics()
    reported = 0
    for piece in pieces:
        context.raise_if_cancelled()
        metrics.add(piece)
        done = pieces.bytes_read
        if done - reported >= REPORT_EVERY_BYTES:
            reported = done
            _refuse_too_large(requested, done)
            context.progress(min(99, 100 * done // max(size, done)), f"{metrics.words:,} words")
    metrics.finish()
    return metrics


def _refuse_too_large(requested: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise FileTooLargeError(requested, size)


def _analysis(parameters: TextParameters, metrics: TextMetrics, pieces: TextPieces) -> TextAnalysis:
    return TextAnalysis(
        path=parameters.path,
        bytes=pieces.bytes_read,
        characters=metrics.characters,
        words=metrics.words,
        unique_words=metrics.unique_words,
        unique_words_complete=metrics.unique_words_complete,
        sentences=metrics.sentences,
        lines=metrics.lines,
        paragraphs=metrics.paragraphs,
        average_sentence_words=_rounded(metrics.words / metrics.sentences) if metrics.words else None,
        syllables=metrics.syllables,
        flesch_reading_ease=_rounded(metrics.reading_ease),
        flesch_kincaid_grade=_rounded(metrics.grade),
        reading_time_seconds=round(metrics.words * 60 / WORDS_PER_MINUTE, 1),
        terms=[Term(term=term, count=count) for term, count in metrics.most_frequent_terms(parameters.top)],
        undecodable_bytes=pieces.damaged_bytes,
    )


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 2)
