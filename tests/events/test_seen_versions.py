"""`SeenVersions`: what is remembered, for how long, and how certain it is."""

from __future__ import annotations

from events.seen_versions import NEVER, SeenVersions


def test_what_was_noted_last_is_certain() -> None:
    seen = SeenVersions(10)
    assert seen.last("a") == NEVER
    seen.note("a", 1)
    seen.note("a", 2)
    assert seen.last("a") == (2, True)


def test_after_a_division_it_is_known_and_not_certain() -> None:
    seen = SeenVersions(10)
    seen.note("a", 3)
    seen.divided_anew()
    assert seen.last("a") == (3, False)
    seen.note("a", 4)
    assert seen.last("a") == (4, True)


def test_what_was_not_heard_of_for_longest_goes_first() -> None:
    seen = SeenVersions(2)
    for subject, version in (("a", 1), ("b", 1), ("a", 2), ("c", 1)):
        seen.note(subject, version)
    assert len(seen) == 2
    assert [seen.last(one).version for one in "abc"] == [2, 0, 1]
