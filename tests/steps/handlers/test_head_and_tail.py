"""What is kept of endless output: its beginning, its end, and how much is missing between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from execution.steps.handlers.head_and_tail import HeadAndTail


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(2, 60))
def test_the_beginning_and_the_end_are_kept_however_it_comes(chunks: list[bytes], limit: int) -> None:
    kept = HeadAndTail(limit)
    for chunk in chunks:
        kept.take(bytes(byte % 26 + 97 for byte in chunk))
    whole = "".join(chr(byte % 26 + 97) for byte in b"".join(chunks))
    if len(whole) <= limit:
        assert (kept.text(), kept.is_truncated) == (whole, False)
    else:
        head, tail = limit - limit // 2, limit // 2
        missing = len(whole) - limit
        assert kept.text() == f"{whole[:head]}\n[{missing} bytes left out]\n{whole[-tail:]}"
        assert kept.is_truncated


def test_what_is_no_text_becomes_one_that_can_be_stored() -> None:
    kept = HeadAndTail(100)
    kept.take(b"a\x00b\xffc")
    assert kept.text() == "a�b�c"
