"""The result of `files.inventory`, and how it is put together from the fingerprints of files.

However large the folder, the result stays far below the inline bound of a JSON column: every list in it is bounded, and
so is every path it names (at most 171 of them; `MAX_PATH_CHARACTERS` take at most 6 bytes each as JSON).
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from pydantic import BaseModel

from execution.builtin.fingerprint import Fingerprint
from execution.builtin.folder_walk import FolderContent
from execution.builtin.languages import language_of

MAX_LARGEST = 50
MAX_DUPLICATE_GROUPS = 20
MAX_PATHS_PER_GROUP = 5
MAX_UNREADABLE = 20
MAX_PATH_CHARACTERS = 160


@dataclass(frozen=True, kw_only=True)
class InventoriedFile:
    """A file below the inventoried folder, and what reading it gave."""

    name: str
    fingerprint: Fingerprint


class Totals(BaseModel):
    """Sums over files. Lines count text files only."""

    files: int = 0
    lines: int = 0
    bytes: int = 0


class LanguageTotals(Totals):
    """Sums over the files of one language."""

    language: str


class LargeFile(BaseModel):
    """One of the largest files."""

    path: str
    bytes: int
    sha256: str


class DuplicateGroup(BaseModel):
    """Files of the same content; `paths` may name fewer than `count`."""

    sha256: str
    bytes: int
    count: int
    paths: list[str]


class UnreadableFile(BaseModel):
    """A file or folder that could not be read."""

    path: str
    problem: str


class Inventory(BaseModel):
    """What a folder holds. A list beside a `..._count` may hold fewer than counted; `digest` covers every file read."""

    path: str
    digest: str
    total: Totals
    languages: list[LanguageTotals]
    largest: list[LargeFile]
    duplicate_group_count: int
    duplicates: list[DuplicateGroup]
    unreadable_count: int
    unreadable: list[UnreadableFile]
    links_not_followed: int
    special_files: int
    truncated: bool

    @property
    def missing(self) -> str | None:
        """What a reader must know is not in it."""
        gaps = []
        if self.unreadable_count:
            first = self.unreadable[0]
            gaps.append(f"{self.unreadable_count:,} unreadable, among them {first.path!r} ({first.problem})")
        if self.truncated:
            gaps.append(f"everything after the first {self.total.files:,} files (raise max_files)")
        return "; ".join(gaps) or None


def take_inventory(path: str, content: FolderContent, files: Sequence[InventoriedFile], largest: int) -> Inventory:
    """The inventory of the files, which come sorted by name."""
    groups = _duplicates(files)
    return Inventory(
        path=shown(path),
        digest=digest_of(files),
        total=_totals(files),
        languages=_languages(files),
        largest=_largest(files, largest),
        duplicate_group_count=len(groups),
        duplicates=groups[:MAX_DUPLICATE_GROUPS],
        unreadable_count=len(content.unreadable),
        unreadable=[
            UnreadableFile(path=shown(name), problem=problem)
            for name, problem in heapq.nsmallest(MAX_UNREADABLE, content.unreadable.items())
        ],
        links_not_followed=content.links_not_followed,
        special_files=content.special_files,
        truncated=content.truncated,
    )


def digest_of(files: Iterable[InventoriedFile]) -> str:
    """SHA-256 over `path NUL sha256 LF` of every file, in the order given: equal for equal folders."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(b"%b\0%b\n" % (os.fsencode(file.name), file.fingerprint.sha256.encode()))
    return digest.hexdigest()


def shown(name: str) -> str:
    """A path as JSON can hold it: bytes that are not UTF-8 escaped, a long one shortened at its front."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return text if len(text) <= MAX_PATH_CHARACTERS else "…" + text[1 - MAX_PATH_CHARACTERS :]


def _totals(files: Iterable[InventoriedFile]) -> Totals:
    total = Totals()
    for file in files:
        _count(total, file.fingerprint)
    return total


def _languages(files: Iterable[InventoriedFile]) -> list[LanguageTotals]:
    languages: dict[str, LanguageTotals] = {}
    for file in files:
        language = language_of(PurePath(file.name).name)
        _count(languages.setdefault(language, LanguageTotals(language=language)), file.fingerprint)
    return sorted(languages.values(), key=lambda one: (-one.bytes, one.language))


def _count(total: Totals, fingerprint: Fingerprint) -> None:
    total.files += 1
    total.lines += fingerprint.lines
    total.bytes += fingerprint.size


def _largest(files: Iterable[InventoriedFile], count: int) -> list[LargeFile]:
    return [
        LargeFile(path=shown(file.name), bytes=file.fingerprint.size, sha256=file.fingerprint.sha256)
        for file in heapq.nsmallest(count, files, key=lambda file: (-file.fingerprint.size, file.name))
    ]


def _duplicates(files: Iterable[InventoriedFile]) -> list[DuplicateGroup]:
    """Every group of equal files that are not empty, the one that repeats most bytes first."""
    groups: defaultdict[str, list[InventoriedFile]] = defaultdict(list)
    for file in files:
        if file.fingerprint.size:
            groups[file.fingerprint.sha256].append(file)
    duplicates = [_group(same) for same in groups.values() if len(same) > 1]
    return sorted(duplicates, key=lambda group: (-group.bytes * (group.count - 1), group.sha256))


def _group(same: Sequence[InventoriedFile]) -> DuplicateGroup:
    return DuplicateGroup(
        sha256=same[0].fingerprint.sha256,
        bytes=same[0].fingerprint.size,
        count=len(same),
        paths=[shown(file.name) for file in same[:MAX_PATHS_PER_GROUP]],
    )
