"""How several processes agree on one server: locks that the kernel releases with their holder.

A list of pids would keep the entry of a killed process for ever, and a pid can be given to another program.
A lock is gone when its process is gone, however that ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

_RETRY_SECONDS = 0.02


@contextmanager
def exclusive(path: Path, *, within: float) -> Iterator[None]:
    """Hold the lock file at `path`; TimeoutError when somebody else keeps it longer than `within` seconds."""
    deadline = time.monotonic() + within
    with path.open("a") as file:
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise TimeoutError(path)
            time.sleep(_RETRY_SECONDS)
        yield


class Attachment:
    """One user of the server, for as long as it lives. Make and release it only under the `exclusive` lock.

    A child made by fork without exec inherits the attachment: start children with spawn or exec.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{os.getpid()}-{uuid4().hex}"
        self._file = self._path.open("x")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


def count_attachments(folder: Path) -> int:
    """Living attachments in `folder`; those of ended processes are swept away. Call under the `exclusive` lock."""
    return sum(_is_living(path) for path in folder.iterdir())


def _is_living(path: Path) -> bool:
    with path.open("a") as file:
        if not _try_lock(file):
            return True
        path.unlink()
        return False


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
