"""Finding the files of a folder, without opening any of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from execution.files_roots import FilesRoots, problem_of


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A regular file: its path below the folder, where it really is, and its size when found."""

    name: str
    path: Path
    size: int


@dataclass(kw_only=True)
class FolderContent:
    """What a walk found. `unreadable` maps a path below the folder to what is wrong with it."""

    files: list[FoundFile] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    links_not_followed: int = 0
    special_files: int = 0
    truncated: bool = False


class FolderWalk:
    """One walk through a folder: regular files, and links to files below the roots that were not met otherwise."""

    def __init__(
        self, roots: FilesRoots, folder: Path, *, ignored: Collection[str], max_files: int, check: Callable[[], None]
    ) -> None:
        """`check` is called for every entry; what it raises ends the walk."""
        self._roots = roots
        self._folder = folder
        self._ignored = frozenset(ignored)
        self._max_files = max_files
        self._check = check
        self._content = FolderContent()
        self._folders = [""]
        self._links: list[str] = []

    def run(self) -> FolderContent:
        """Walk; the files come sorted by name."""
        while self._folders and not self._content.truncated:
            self._list(self._folders.pop())
        # Only now: a link to a file that lies in the folder itself must not count it twice.
        self._follow_links()
        self._content.files.sort(key=lambda file: os.fsencode(file.name))
        return self._content

    def _list(self, folder: str) -> None:
        try:
            with self._roots.open_folder(self._folder / folder) as descriptor, os.scandir(descriptor) as entries:
                for entry in entries:
                    self._check()
                    self._visit(os.path.join(folder, entry.name), entry)  # noqa: PTH118 - a string per file is cheaper
                    if self._content.truncated:
                        return
        except OSError as error:
            self._content.unreadable[folder or "."] = problem_of(error)

    def _visit(self, name: str, entry: os.DirEntry[str]) -> None:
        try:
            if entry.is_symlink():
                self._links.append(name)
                self._content.truncated = len(self._links) > self._max_files
            elif entry.is_dir(follow_symlinks=False):
                if entry.name not in self._ignored:
                    self._folders.append(name)
            else:
                self._add(name, self._folder / name, entry.stat(follow_symlinks=False))
        except OSError as error:
            self._content.unreadable[name] = problem_of(error)

    def _add(self, name: str, path: Path, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self._content.special_files += 1
        elif len(self._content.files) >= self._max_files:
            self._content.truncated = True
        else:
            self._content.files.append(FoundFile(name=name, path=path, size=status.st_size))

    def _follow_links(self) -> None:
        known = {file.path for file in self._content.files}
        for name in sorted(self._links):
            self._check()
            try:
                self._follow(name, known)
            except OSError as error:
                self._content.unreadable[name] = problem_of(error)

    def _follow(self, name: str, known: set[Path]) -> None:
        target = Path(os.path.realpath(self._folder / name))
        # Before any look at the target: whether something exists outside the roots is nobody's business here.
        if not self._roots.contain(target):
            self._content.links_not_followed += 1
            return
        status = target.stat()
        if stat.S_ISDIR(status.st_mode) or target in known:
            self._content.links_not_followed += 1
            return
        known.add(target)
        self._add(name, target, status)
