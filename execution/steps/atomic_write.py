"""Replacing a file as a whole: whoever reads it sees the old content or the new, also after a power cut."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class NotARegularFileError(OSError):
    """Something else has that name: a folder, a link, a device."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} exists and is no regular file")


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a file is to be: its bytes and its permissions."""

    data: bytes
    mode: int

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def write_atomically(folder: int, name: str, content: Content) -> bool:
    """Make the file `name` in an open folder what it is to be; False if it was so already.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    if _is_already(folder, name, content):
        return False
    # In the same folder, because a rename across file systems is a copy.
    temporary = f".{uuid4().hex}.tmp"
    try:
        _write(folder, temporary, content)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)  # the name is an entry of the folder, and on the disk only when the folder is
    return True


def _is_already(folder: int, name: str, content: Content) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise NotARegularFileError(name)
    if found.st_size != len(content.data) or stat.S_IMODE(found.st_mode) != content.mode:
        return False
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return False  # it may be replaced without being readable
    with os.fdopen(descriptor, "rb") as file:
        if file.read(len(content.data) + 1) != content.data:
            return False
        os.fsync(descriptor)  # who wrote it may have died before this
    os.fsync(folder)
    return True


def _write(folder: int, name: str, content: Content) -> None:
    descriptor = os.open(name, _CREATE, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.data)
        file.flush()
        os.fchmod(descriptor, content.mode)  # not through open(), which the umask would lessen
        os.fsync(descriptor)
