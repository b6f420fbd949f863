"""The form of API keys."""

from __future__ import annotations

import re
from random import Random

import pytest

from execution.access_errors import InvalidApiKeyError
from execution.key_token import PATTERN, KeyToken, prefix_of

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_a_new_key_has_the_form_that_scanners_look_for() -> None:
    token = KeyToken.new()
    assert re.fullmatch(PATTERN, token.text)
    assert KeyToken.parse(token.text) == token
    assert KeyToken.new() != token


def test_the_public_part_is_shown_and_the_rest_is_not() -> None:
    token = KeyToken.new()
    assert token.text.startswith(f"{token.prefix}_")
    assert prefix_of(token.prefix) == token.prefix
    assert token.text not in repr(token)


def test_any_wrong_character_is_noticed_without_a_lookup(chance: Random) -> None:
    text = KeyToken.new().text
    for place in (*range(4, 16), *range(17, len(text))):
        wrong = chance.choice(DIGITS.replace(text[place], ""))
        with pytest.raises(InvalidApiKeyError, match="checksum is wrong") as caught:
            KeyToken.parse(text[:place] + wrong + text[place + 1 :])
        assert text[17:] not in str(caught.value)


@pytest.mark.parametrize("spoil", [lambda t: "", lambda t: t[:-1], lambda t: t + "0", lambda t: f" {t}", str.upper])
def test_what_does_not_look_like_a_key_is_none(spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(InvalidApiKeyError, match="form of a key"):
        KeyToken.parse(spoil(KeyToken.new().text))
