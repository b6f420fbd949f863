"""Kind `text.analyze`, on real files."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from execution.builtin.english import sentence_ends, sentences_in, words_in
from execution.builtin.text_analyze import (
    MAX_FILE_BYTES,
    REPORT_EVERY_BYTES,
    FileTooLargeError,
    TextAnalysis,
    TextAnalyze,
    TextParameters,
)
from execution.builtin.text_metrics import TextMetrics
from execution.builtin.text_pieces import PIECE_CHARACTERS
from execution.domain.outcome import StopRequested
from execution.files_roots import FilesRoots, PathNotAllowedError, PathUnusableError
from tests.support.recording_context import RecordingContext

KNOWN = "The cat sat on the mat. The cat saw a dog!\nIt ran.\n\nDr. Smith's cat isn't here\n"
"""5 lines, one blank; 18 words of one syllable each; the fourth sentence ends with the text."""


def analyse(
    folder: Path, content: bytes | str, context: RecordingContext | None = None, **parameters: object
) -> TextAnalysis:
    (folder / "text.txt").write_bytes(content.encode() if isinstance(content, str) else content)
    handler = TextAnalyze(FilesRoots([folder]))
    return handler.run(context or RecordingContext(), TextParameters.model_validate({"path": "text.txt"} | parameters))


def test_the_figures_of_a_known_text(tmp_path: Path) -> None:
    analysis = analyse(tmp_path, KNOWN)
    assert (analysis.bytes, analysis.characters) == (79, 79)
    assert (analysis.words, analysis.sentences, analysis.lines, analysis.paragraphs) == (18, 4, 4, 2)
    # the cat sat on mat saw a dog it ran dr smith's isn't here
    assert analysis.unique_words == 14
    assert analysis.unique_words_complete
    assert analysis.average_sentence_words == 4.5
    assert analysis.syllables == 18
    assert analysis.reading_time_seconds == 4.5
    assert analysis.undecodable_bytes == 0


def test_the_readability_of_a_known_text(tmp_path: Path) -> None:
    # 6 words in 2 sentences, 8 syllables: o-pen the win-dow, rain came in -> 2+1+2 +1+1+1
    analysis = analyse(tmp_path, "Open the window. Rain came in.")
    assert (analysis.words, analysis.sentences, analysis.syllables) == (6, 2, 8)
    assert analysis.flesch_reading_ease == round(206.835 - 1.015 * 3 - 84.6 * 8 / 6, 2) == 90.99
    assert analysis.flesch_kincaid_grade == round(0.39 * 3 + 11.8 * 8 / 6 - 15.59, 2) == 1.31


def test_terms_are_counted_without_stop_words_numbers_and_possessives(tmp_path: Path) -> None:
    analysis = analyse(tmp_path, "The Worker's log. A worker, 2024 2024 2024; the LOG isn\u2019t a log. Worker x x x x")
    assert [(one.term, one.count) for one in analysis.terms] == [("log", 3), ("worker", 3)]
    assert analyse(tmp_path, "one fish two fish red fish", top=1).terms[0].term == "fish"
    assert analyse(tmp_path, "fish", top=0).terms == []


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It costs 3.50 today. Really?! Yes...", 3),
        ("Mr. J. Smith met Dr. Who, e.g. on Monday.", 1),
        ('He said "Stop." Then he left.', 2),
        ("A heading\n\nA sentence goes\nover two lines.", 2),
        ("... !!! ???", 0),
        ("So do I. So does he.", 2),
    ],
)
def test_sentences(tmp_path: Path, text: str, sentences: int) -> None:
    assert analyse(tmp_path, text).sentences == sentences


@pytest.mark.parametrize(
    ("text", "lines", "paragraphs"),
    [("", 0, 0), ("\n", 1, 0), ("a", 1, 1), ("a\nb\n", 2, 1), ("a\r\n \r\nb\rc", 4, 2), ("\n\n a\n\n\nb", 6, 2)],
)
def test_lines_and_paragraphs(tmp_path: Path, text: str, lines: int, paragraphs: int) -> None:
    analysis = analyse(tmp_path, text)
    assert (analysis.lines, analysis.paragraphs) == (lines, paragraphs)


def test_a_text_without_words_has_no_readability(tmp_path: Path) -> None:
    context = RecordingContext()
    analysis = analyse(tmp_path, "", context)
    assert (analysis.words, analysis.characters) == (0, 0)
    assert analysis.flesch_reading_ease is analysis.flesch_kincaid_grade is analysis.average_sentence_words is None
    assert context.percentages == [0, 100]


def test_undecodable_bytes_are_counted_and_real_replacement_characters_are_not(tmp_path: Path) -> None:
    analysis = analyse(tmp_path, b"one \xff\xfe two \xef\xbf\xbd three \xc3")
    assert (analysis.words, analysis.undecodable_bytes) == (3, 3)
    assert analysis.characters == len("one ?? two ? three ?")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "latin-1", "shift_jis", "cp1252"])
def test_other_encodings_give_the_same_figures(tmp_path: Path, encoding: str) -> None:
    expected = analyse(tmp_path, KNOWN).model_dump(exclude={"bytes"})
    assert analyse(tmp_path, KNOWN.encode(encoding), encoding=encoding).model_dump(exclude={"bytes"}) == expected


def test_half_a_character_at_the_end_of_utf_16_is_one_damaged_byte(tmp_path: Path) -> None:
    assert analyse(tmp_path, "abc".encode("utf-16") + b"\x41", encoding="utf-16").undecodable_bytes == 1


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    analysis = analyse(tmp_path, codecs.BOM_UTF8 + b"word")
    assert (analysis.characters, analysis.terms[0].term) == (4, "word")


def test_a_line_longer_than_a_piece_is_not_cut_within_a_word(tmp_path: Path) -> None:
    count = 3 * PIECE_CHARACTERS // 8
    analysis = analyse(tmp_path, "brownie " * count + "end")
    assert (analysis.words, analysis.unique_words, analysis.lines, analysis.sentences) == (count + 1, 2, 1, 1)
    assert analysis.characters == 8 * count + 3


def test_a_gap_within_a_long_line_is_no_blank_line(tmp_path: Path) -> None:
    analysis = analyse(tmp_path, "one" + " " * PIECE_CHARACTERS * 3 + "two")
    assert (analysis.words, analysis.lines, analysis.paragraphs, analysis.sentences) == (2, 1, 1, 1)


def test_a_file_that_is_one_endless_word_is_analysed_all_the_same(tmp_path: Path) -> None:
    analysis = analyse(tmp_path, b"x" * PIECE_CHARACTERS * 5)
    assert (analysis.characters, analysis.lines) == (PIECE_CHARACTERS * 5, 1)
    assert len(analysis.terms[0].term) <= 64


@pytest.mark.timeout(20)
@pytest.mark.parametrize("run", [".", "'", ".'", "a-", "\n", " ", "\n "])
def test_long_runs_take_no_more_than_linear_time(run: str) -> None:
    text = f"{run * 400_000}x"
    assert list(sentence_ends(text)) == []
    assert sentences_in(text) == [text.strip()]
    assert len(words_in(text)) == 1


def test_progress_follows_the_bytes_and_ends_at_100(tmp_path: Path) -> None:
    context = RecordingContext()
    analyse(tmp_path, b"some words in a line\n" * (REPORT_EVERY_BYTES // 2), context)
    assert context.percentages == sorted(context.percentages)
    assert (context.percentages[0], context.percentages[-1]) == (0, 100)
    assert 8 <= len(context.percentages) <= 12


def test_a_request_to_stop_is_obeyed_before_the_next_report(tmp_path: Path) -> None:
    context = RecordingContext(cancel_after=3)
    with pytest.raises(StopRequested):
        analyse(tmp_path, b"some words in a line\n" * (REPORT_EVERY_BYTES // 2), context)
    assert len(context.percentages) == 3


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "text.txt").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    context = RecordingContext()
    with pytest.raises(FileTooLargeError, match="67,108,865 bytes") as refused:
        TextAnalyze(FilesRoots([tmp_path])).run(context, TextParameters(path="text.txt"))
    assert (refused.value.code, refused.value.status, context.percentages) == ("file_too_large", 413, [])


def test_what_may_not_or_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PathNotAllowedError):
        analyse(tmp_path, "", path="../elsewhere.txt")
    with pytest.raises(PathUnusableError, match="it is a folder"):
        analyse(tmp_path, "", path=".")


def test_memory_is_bounded_by_how_many_words_are_told_apart() -> None:
    metrics = TextMetrics(max_unique_words=2)
    metrics.add("red green red blue green\n")
    metrics.finish()
    assert (metrics.words, metrics.unique_words, metrics.unique_words_complete) == (5, 2, False)
    assert metrics.most_frequent_terms(5) == [("green", 2), ("red", 2)]
