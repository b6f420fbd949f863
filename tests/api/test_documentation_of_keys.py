"""What `docs/http.md` says of keys is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from execution.api.rate_limit import WRONG_KEYS_AT_ONCE, WRONG_KEYS_PER_SECOND
from execution.key_token import PATTERN, KeyToken
from execution.keys import RECENT_SECONDS
from execution.principal import Scope

GUIDE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")


def test_the_pattern_for_secret_scanners() -> None:
    (pattern,) = re.findall(r"^exk_.*$", GUIDE, re.MULTILINE)
    assert pattern == PATTERN
    assert re.fullmatch(pattern, KeyToken.new().text)


def test_the_scopes() -> None:
    assert re.findall(r"^\| `(read|write|admin)` \|", GUIDE, re.MULTILINE) == list(Scope)


def test_the_times_and_limits() -> None:
    assert f"for {RECENT_SECONDS:g} seconds" in GUIDE
    assert f"after {WRONG_KEYS_AT_ONCE} of them" in GUIDE
    assert WRONG_KEYS_PER_SECOND == 1, "'one more each second'"
