"""Ids that are derived from a command's: the same each time, in order, and made like any other."""

from __future__ import annotations

import pytest

from execution.ids import derived_id, new_id

ITEMS = 4_096


def test_they_are_the_same_each_time() -> None:
    command_id = new_id()
    assert derived_id(command_id, 7) == derived_id(command_id, 7)


def test_they_are_version_7_of_the_time_of_their_command() -> None:
    command_id = new_id()
    derived = derived_id(command_id, 7)
    assert derived.version == 7
    assert derived.variant == command_id.variant
    assert derived.bytes[:6] == command_id.bytes[:6]


def test_they_keep_the_order_of_the_items_and_are_all_different() -> None:
    command_id = new_id()
    derived = [derived_id(command_id, index) for index in range(ITEMS)]
    assert sorted(set(derived)) == derived
    assert command_id not in derived


def test_other_commands_have_others() -> None:
    """Also those of the same millisecond."""
    command_ids = {new_id() for _ in range(1_000)}
    assert len({derived_id(command_id, 0) for command_id in command_ids}) == len(command_ids)


@pytest.mark.parametrize("index", [-1, ITEMS])
def test_there_are_so_many_and_no_more(index: int) -> None:
    with pytest.raises(ValueError, match="0 to 4095"):
        derived_id(new_id(), index)
