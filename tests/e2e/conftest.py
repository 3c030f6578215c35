"""Fixtures with real networks. Everything they start is ended, also when a test fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import network
from network import RealNetwork, real_network
from taxledger.ledger.errors import TaxledgerError
from taxledger.nodes.ordering.cometbft.binary import check_engine


def pytest_configure(config: pytest.Config) -> None:
    network.ENGINE = config.getoption("--engine")


@pytest.fixture
def cometbft(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of this test are ordered by CometBFT, whatever the others'."""
    try:
        check_engine()
    except TaxledgerError as error:
        pytest.skip(f"needs CometBFT: {error}")
    monkeypatch.setattr(network, "ENGINE", "cometbft")


@pytest.fixture
def net(tmp_path: Path) -> Iterator[RealNetwork]:
    """Four members, running, with the tag key of 2025 on the ledger."""
    with real_network(tmp_path / "net") as network:
        yield network
