"""How far a partition may be committed: behind everything that is done, and before the first that is not."""

from __future__ import annotations

from random import Random

from events.partition_progress import PartitionProgress


def test_nothing_is_committed_past_what_is_open() -> None:
    progress = PartitionProgress()
    for offset in (10, 11, 14):
        progress.begin(offset)
    progress.end(11)
    progress.end(14)
    assert progress.to_commit() == 10
    progress.end(10)
    assert progress.to_commit() == 15
    progress.committed(15)
    assert progress.to_commit() is None
    assert not progress.has_open


def test_nothing_has_begun() -> None:
    assert PartitionProgress().to_commit() is None


def test_in_any_order(chance: Random) -> None:
    progress, last = PartitionProgress(), 0
    open_ones: list[int] = []
    for _ in range(2_000):
        if open_ones and chance.random() < 0.5:
            ended = open_ones.pop(chance.randrange(len(open_ones)))
            progress.end(ended)
        else:
            last += chance.randint(1, 3)
            progress.begin(last)
            open_ones.append(last)
        expected = min(open_ones, default=last + 1)
        assert progress.to_commit() in {expected, None}
        if chance.random() < 0.2 and (offset := progress.to_commit()) is not None:
            progress.committed(offset)
            assert progress.to_commit() is None
