"""Texts for people: messages and reasons, which never make a write fail."""

from __future__ import annotations

import re

MAX_REASON_LENGTH = 2000
"""Characters of a reason or a message of progress that are kept in the log."""
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """The text without what PostgreSQL (NUL) or UTF-8 (surrogates, as in undecodable file names) cannot hold."""
    if text.isascii() and "\x00" not in text:
        return text
    return _NOT_STORABLE.sub("\ufffd", text)


def kept(text: str | None) -> str | None:
    """A reason or a message as the log keeps it."""
    if text is None or (len(text) <= MAX_REASON_LENGTH and text.isascii() and "\x00" not in text):
        return text
    return storable(text[:MAX_REASON_LENGTH])
