"""Real input for the demo: the folder it was given, and texts that are found in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from execution.builtin.files_inventory import IGNORED_FOLDERS
from execution.errors import InvalidRequestError

MAX_TEXTS = 4
MAX_TEXT_BYTES = 1024 * 1024
MIN_TEXT_WORDS = 50
MIN_SHARE_OF_WORDS = 0.4
"""A list of digests is UTF-8, too, but nothing to summarise."""
MAX_FILES_LOOKED_AT = 20_000
_NO_PROSE = re.compile(r"^```.*?^```$|^\|.*?$", re.DOTALL | re.MULTILINE)
SUMMARY_CHARACTERS = 20_000
_PUNCTUATION = ".,;:!?()[]{}\"'`*_#"
_PROSE = (".md", ".rst", ".txt")
_CODE = (".py", ".js", ".ts", ".go", ".rs", ".java", ".c", ".h", ".html", ".toml", ".yaml", ".yml")


class NoFolderError(InvalidRequestError):
    """The demo was pointed at something that is no folder."""

    code = "no_folder"

    def __init__(self, path: Path) -> None:
        problem = "is not a folder" if path.exists() else "does not exist"
        super().__init__(f"{path} {problem}. Name an existing folder: execution demo PATH")


@dataclass(frozen=True, kw_only=True)
class DemoInput:
    """The folder, the texts to analyse, and the folder of texts where it has none of its own."""

    folder: Path
    texts: tuple[Path, ...]
    fallback: Path | None = None

    @property
    def roots(self) -> tuple[Path, ...]:
        """What the workers have to be allowed to read."""
        return (self.folder, self.fallback) if self.fallback else (self.folder,)

    @property
    def text_to_summarise(self) -> str:
        """The beginning of the first text, without code and tables, which are no sentences."""
        text = self.texts[0].read_text("utf-8")
        prose = _NO_PROSE.sub("", text)
        return (prose if len(prose.split()) >= MIN_TEXT_WORDS else text)[:SUMMARY_CHARACTERS]

    def name_of(self, text: Path) -> str:
        """The text's path as the handlers take it: relative to the folder where it lies in it."""
        return str(text.relative_to(self.folder) if text.is_relative_to(self.folder) else text)


def find_input(path: Path) -> DemoInput:
    """The input in a folder; a folder without any text lends one from this program's own source.

    Raises:
        NoFolderError: there is no such folder.
    """
    if not path.is_dir():
        raise NoFolderError(path)
    folder = path.resolve()
    if texts := _texts_in(folder):
        return DemoInput(folder=folder, texts=texts)
    own = Path(__file__).resolve().parent
    return DemoInput(folder=folder, texts=_texts_in(own), fallback=own)


def _texts_in(folder: Path) -> tuple[Path, ...]:
    """Prose before code, near before deep, large before small; only what reads as text."""
    found = list(islice(_candidates(folder), MAX_FILES_LOOKED_AT))
    found.sort(key=_preference)
    return tuple(islice((path for path, _ in found if _is_text(path)), MAX_TEXTS))


def _preference(candidate: tuple[Path, int]) -> tuple[bool, int, int, Path]:
    path, size = candidate
    return path.suffix.lower() not in _PROSE, len(path.parts), -size, path


def _candidates(folder: Path) -> Iterator[tuple[Path, int]]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - set(IGNORED_FOLDERS))
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in (*_PROSE, *_CODE) and not path.is_symlink() and path.is_file():
                size = path.stat().st_size
                if size <= MAX_TEXT_BYTES:
                    yield path, size


def _is_text(path: Path) -> bool:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    pieces = text.split()
    words = sum(piece.strip(_PUNCTUATION).isalpha() for piece in pieces)
    return "\0" not in text and words >= max(MIN_TEXT_WORDS, MIN_SHARE_OF_WORDS * len(pieces))
