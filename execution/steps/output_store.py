"""Where outputs go that are too large to be kept inline: a store by digest, and one made of files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol

from execution.steps.atomic_write import Content, write_atomically
from execution.steps.canonical import digest
from execution.steps.errors import StoredOutputError

_PLACE = re.compile(r"sha256/([0-9a-f]{2})/([0-9a-f]{62})\.json")
_PERMISSIONS = 0o600


class OutputStore(Protocol):
    """Keeps contents by their digest. Both calls may block on a disk or a network."""

    def keep(self, content: bytes) -> str:
        """Keep the content until somebody removes it on purpose; the answer is its place."""

    def read(self, place: str) -> bytes:
        """The content of that place.

        Raises:
            StoredOutputError: it is not there, or cannot be read.
        """


class OutputFolder:
    """A folder with one file per content, named by its digest: `sha256/ab/cdef….json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes) -> str:
        """Write the content durably, unless it is there already."""
        hexadecimal = digest(content).removeprefix("sha256:")
        place = f"sha256/{hexadecimal[:2]}/{hexadecimal[2:]}.json"
        path = self._folder / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                write_atomically(folder, path.name, Content(data=content, mode=_PERMISSIONS))
            finally:
                os.close(folder)
        except OSError as error:
            raise StoredOutputError(place, str(error)) from None
        return place

    def read(self, place: str) -> bytes:
        """The content of that place; a place that this store would never give is not looked for."""
        if _PLACE.fullmatch(place) is None:
            raise StoredOutputError(place, "it is not the name of an output, such as sha256/ab/cdef….json")
        try:
            return (self._folder / place).read_bytes()
        except OSError as error:
            raise StoredOutputError(place, error.strerror or str(error)) from None
