"""Taking out of what comes back what was sent in confidence: an origin may repeat it, and evidence is for many eyes."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

HIDDEN = "[secret]"
SHORTEST_SECRET = 6
"""What is shorter stands in any text by chance."""


class SecretsKept:
    """Knows the values of headers that are secrets, and the forms in which they come back."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for part in (value, value.split()[-1]) for form in _forms(part)}
        # Longest first: one may contain another.
        self._forms = sorted((form for form in forms if len(form) >= SHORTEST_SECRET), key=len, reverse=True)

    def out_of(self, text: str) -> str:
        """The text without them."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def out_of_bytes(self, data: bytes) -> bytes:
        """The data without them."""
        for form in self._forms:
            data = data.replace(form.encode(), HIDDEN.encode())
        return data


def _forms(secret: str) -> Iterator[str]:
    """As it is, as hosts, JSON, URLs and Basic authentication write it, and the password that is in the latter."""
    yield secret
    yield secret.lower()
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield base64.b64encode(secret.encode()).decode()
    try:
        told = base64.b64decode(secret, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return
    if told.isprintable() and ":" in told:
        yield told
        yield told.partition(":")[2]
