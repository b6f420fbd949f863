"""What is said of a relay's effect, from rounds that nobody has run."""

from __future__ import annotations

import pytest

from benchmarks.kafka.effect import Beside
from benchmarks.usage import Usage


def usage(per_second: float, others: float = 0.1) -> Usage:
    """A round of one second on two processors."""
    return Usage(
        executions=round(per_second),
        seconds=1.0,
        processors=2,
        service={"service": 0.8},
        postgres=0.6,
        busiest_postgres=0.3,
        others=others,
        wal_bytes=0,
        wal_io_seconds=0.0,
    )


def beside(*rounds: tuple[Usage, Usage]) -> Beside:
    return Beside(without=[one for one, _ in rounds], usages=[one for _, one in rounds], published=[0.5] * len(rounds))


def test_noisy_pairs_do_not_count_unless_most_are() -> None:
    quiet, noisy = (usage(1_000), usage(900)), (usage(1_000), usage(300, others=0.5))
    assert beside(quiet, noisy, quiet).lost == pytest.approx([0.1, 0.1])
    assert beside(noisy[::-1], quiet, quiet).lost == pytest.approx([0.1, 0.1]), "whichever of both it is"
    assert beside(quiet, noisy, noisy).lost == pytest.approx([0.1, 0.7, 0.7])


def test_what_is_lost_is_the_median_of_the_pairs_with_its_quartiles() -> None:
    figures = beside(*((usage(1_000), usage(1_000 - lost)) for lost in (400, 0, 100, 300, 200))).to_json()
    assert (figures["lost"], figures["lost_quartiles"]) == (0.2, [0.1, 0.3])
    assert figures["pairs_too_noisy_to_count"] == 0
