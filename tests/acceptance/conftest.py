"""The program as its users run it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cli_nursery import CliNursery, cli_nursery
from tests.support.shell import WITHIN


@pytest.fixture(scope="session")
def nursery() -> Iterator[CliNursery]:
    """Where short commands come from."""
    with cli_nursery(within=WITHIN) as nursery:
        yield nursery
