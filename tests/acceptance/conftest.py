"""The program as its users run it."""

from __future__ import annotations

import pytest

from tests.support import nursery as nurseries


@pytest.fixture(scope="session")
def nursery() -> nurseries.Nursery:
    """Where short commands come from."""
    return nurseries.nursery()
