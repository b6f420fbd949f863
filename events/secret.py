"""A text that nobody should see by accident."""

from __future__ import annotations

from pathlib import Path
from typing import Self

_LARGEST = 65_536


class UnreadableSecretError(ValueError):
    """A secret's file cannot be read, or there is none in it."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"the secret in {file} cannot be read: {problem}")


class Secret:
    """A secret that is known, or that is read from a file whenever it is needed, so that a new one counts at once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._file: Path | None = None

    @classmethod
    def in_file(cls, file: Path) -> Self:
        """The content of a file, without the line's end that editors put there."""
        secret = cls("")
        secret._file = file
        return secret

    def reveal(self) -> str:
        """The text itself.

        Raises:
            UnreadableSecretError: its file is missing, empty, too large, or no text.
        """
        return self._text if self._file is None else _read(self._file)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'...' if self._file is None else f'in {self._file}'})"


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise UnreadableSecretError(file, error.strerror or type(error).__name__) from error
    except UnicodeDecodeError:
        raise UnreadableSecretError(file, "it is not UTF-8") from None  # its cause would show the bytes
    if not text or len(content) > _LARGEST:
        raise UnreadableSecretError(file, "it is too large" if text else "it is empty")
    return text
