"""Which files handlers may touch: those below the folders that a setting names, and no others.

A path is checked once, when asked for, and guarded again when opened: every component below the root is opened without
following links, so a folder or file exchanged for a link in between leads to an error and not out of the roots.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from execution.errors import InvalidRequestError

# O_PATH where the system has it: passing through a folder takes no permission to list it.
_PASS_THROUGH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
_LIST_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# O_NONBLOCK: a file exchanged for a FIFO must not hold the thread until somebody writes into it.
_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class PathNotAllowedError(InvalidRequestError):
    """The path does not lie below one of the folders that `setting` names."""

    code = "path_not_allowed"

    def __init__(self, requested: str, setting: str) -> None:
        self.requested = requested
        super().__init__(
            f"Path {requested!r} is not below a folder of {setting}, with symbolic links resolved. "
            f"Name a path below one of them, or add its folder to {setting}."
        )


class PathUnusableError(InvalidRequestError):
    """The path is allowed, but nothing that can be used as asked is there."""

    code = "path_unusable"

    def __init__(self, requested: str, problem: str) -> None:
        self.requested = requested
        super().__init__(f"Path {requested!r} cannot be used: {problem}.")


class FilesRoots:
    """The folders of `setting`, whose content may be used; relative paths are relative to the first."""

    def __init__(self, roots: Sequence[Path], setting: str = "EXECUTION_FILES_ROOTS") -> None:
        if not roots:
            raise ValueError(f"{setting} must name at least one folder")
        self._setting = setting
        self._roots = tuple(_resolved(root) for root in roots)

    def folder(self, requested: str) -> Path:
        """The requested folder, symbolic links resolved.

        Raises:
            PathNotAllowedError: it lies elsewhere.
            PathUnusableError: it is missing, or is not a folder.
        """
        path = self._locate(requested)
        if not stat.S_ISDIR(_mode(path, requested)):
            raise PathUnusableError(requested, "it is not a folder")
        return path

    def open_requested(self, requested: str) -> BinaryIO:
        """The requested file, opened for reading.

        Raises:
            PathNotAllowedError: it lies elsewhere.
            PathUnusableError: it is missing, is not a regular file, or may not be read.
        """
        path = self._locate(requested)
        mode = _mode(path, requested)
        if not stat.S_ISREG(mode):
            raise PathUnusableError(
                requested, "it is a folder, not a file" if stat.S_ISDIR(mode) else "it is no regular file"
            )
        try:
            return self.open_file(path)
        except OSError as error:
            raise PathUnusableError(requested, problem_of(error)) from error

    def contain(self, resolved: Path) -> bool:
        """Does this path, whose links are resolved, lie below a root?"""
        return any(resolved.is_relative_to(root) for root in self._roots)

    def open_file(self, resolved: Path) -> BinaryIO:
        """A regular file for reading; `OSError` if it cannot be read or became something else meanwhile."""
        descriptor = self._open(resolved, _READ_FILE)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        raise OSError("no longer a regular file")

    @contextmanager
    def open_folder(self, resolved: Path) -> Iterator[int]:
        """A descriptor to list a folder with; `OSError` if it cannot be listed or became something else meanwhile."""
        descriptor = self._open(resolved, _LIST_FOLDER)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _locate(self, requested: str) -> Path:
        try:
            path = _resolved(self._roots[0] / requested)
        except (OSError, ValueError) as error:
            raise PathUnusableError(requested, problem_of(error)) from error
        # Before any look at what is there: an error must not tell what exists outside.
        if not self.contain(path):
            raise PathNotAllowedError(requested, self._setting)
        return path

    def _open(self, resolved: Path, flags: int) -> int:
        root = next(root for root in self._roots if resolved.is_relative_to(root))
        names = resolved.relative_to(root).parts
        descriptor = os.open(root, _PASS_THROUGH if names else flags)
        for depth, name in enumerate(names, start=1):
            try:
                child = os.open(name, flags if depth == len(names) else _PASS_THROUGH, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = child
        return descriptor


def problem_of(error: OSError | ValueError) -> str:
    """What went wrong, without the path: the message that uses it names the path as it was asked for."""
    problem = error.strerror if isinstance(error, OSError) else None
    return (problem or str(error)).lower()


def _resolved(path: Path) -> Path:
    # Not Path.resolve(): whether that raises for a loop of links differs between Python versions.
    return Path(os.path.realpath(path))


def _mode(path: Path, requested: str) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        raise PathUnusableError(requested, problem_of(error)) from error
