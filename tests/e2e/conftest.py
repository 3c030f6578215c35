"""Fixtures with real networks. Everything they start is ended, also when a test fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from network import RealNetwork, real_network


@pytest.fixture
def net(tmp_path: Path) -> Iterator[RealNetwork]:
    """Four members, running, with the tag key of 2025 on the ledger."""
    with real_network(tmp_path / "net") as network:
        yield network
