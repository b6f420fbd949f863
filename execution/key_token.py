"""What an API key looks like: `exk_<public part>_<secret><checksum>`, which secret scanners can recognise.

The public part finds the key's row and is shown in lists. The secret has 256 random bits, which is why a single SHA-256
of the key is kept and no slow hash: those make guessable secrets costly to guess, this one cannot be guessed, and every
request would pay for it. The checksum tells a key that was mistyped or cut off from one that is wrong, without a look
at the database.
"""

from __future__ import annotations

import re
import secrets
import string
from binascii import crc32
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from execution.access_errors import InvalidApiKeyError

PATTERN = r"exk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}"
"""Of a whole key, for secret scanners."""

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_KEY = re.compile(PATTERN)
_PREFIX_LENGTH = len("exk_") + 12
_SECRET_LENGTH = 43
"""Digits of 256 bits."""
_CHECKSUM_LENGTH = 6
"""Digits of a CRC-32."""


@dataclass(frozen=True)
class KeyToken:
    """A key as its holder sends it, complete and with the right checksum."""

    text: str = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """A key that nobody has yet."""
        public = "".join(secrets.choice(_DIGITS) for _ in range(12))
        unchecked = f"exk_{public}_{_base62(secrets.randbits(256), _SECRET_LENGTH)}"
        return cls(unchecked + _checksum(unchecked))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that a text is.

        Raises:
            InvalidApiKeyError: it cannot be one.
        """
        if not _KEY.fullmatch(text):
            raise InvalidApiKeyError("it does not have the form of a key")
        if _checksum(text[:-_CHECKSUM_LENGTH]) != text[-_CHECKSUM_LENGTH:]:
            raise InvalidApiKeyError("its checksum is wrong, so a character of it is")
        return cls(text)

    @property
    def prefix(self) -> str:
        """The part that may be shown."""
        return prefix_of(self.text)

    @property
    def digest(self) -> bytes:
        """What is kept of it."""
        return digest_of(self.text)


def prefix_of(text: str) -> str:
    """The public part of a key, also if that is all there is of it."""
    return text[:_PREFIX_LENGTH]


def digest_of(text: str) -> bytes:
    """The SHA-256 of a key."""
    return sha256(text.encode(errors="surrogatepass")).digest()


def _checksum(unchecked: str) -> str:
    return _base62(crc32(unchecked.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
