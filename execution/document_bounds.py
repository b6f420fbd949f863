"""How large, deep and many-parted a JSON body may be, found out before a parser sees it.

A parser that descends into a thousand brackets costs its stack, and a million small keys cost far more memory than they
have bytes. So what a body is made of is counted first, in C and in one pass: a few counts of single bytes settle
nearly every body, because none of its parts can be more than the bytes that begin one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate

from execution.request_errors import DocumentTooComplexError

_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
"""A string, closed or not: an unclosed one must match too, or each quote in it would be tried as a beginning."""
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


@dataclass(frozen=True, kw_only=True)
class DocumentBounds:
    """What one JSON body may have at most. `strings` are bytes of its longest string or key, as they are written."""

    depth: int = 64
    keys: int = 20_000
    values: int = 50_000
    strings: int = 300_000

    def check(self, body: bytes) -> None:
        """Refuse a body that exceeds a bound. Whether it is JSON at all is for the parser to say.

        Raises:
            DocumentTooComplexError: it names the bound.
        """
        if self._cannot_exceed(body):
            return
        structure = self._without_strings(body)
        openings = structure.count(b"[") + structure.count(b"{")
        _at_most("keys", structure.count(b":"), self.keys)
        _at_most("values", structure.count(b",") + openings, self.values)
        if openings > self.depth:
            brackets = structure.translate(None, _NOT_BRACKETS)
            _at_most("levels", max(accumulate(map(_STEP.__getitem__, brackets))), self.depth)

    def _cannot_exceed(self, body: bytes) -> bool:
        """Do the bytes that could begin a part settle it? Those inside strings count too: it errs to the safe side."""
        openings = body.count(b"[") + body.count(b"{")
        return (
            openings <= self.depth
            and len(body) <= self.strings
            and body.count(b":") <= self.keys
            and body.count(b",") + openings <= self.values
        )

    def _without_strings(self, body: bytes) -> bytes:
        if len(body) > self.strings:
            longest = max((end - begin for begin, end in (one.span() for one in _STRING.finditer(body))), default=0)
            _at_most("bytes in one string", longest, self.strings)
        return _STRING.sub(b"", body)


def _at_most(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise DocumentTooComplexError(what, count, limit)
