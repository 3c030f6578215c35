"""Networks in namespaces. Everything they start is ended, and every namespace removed, also when a test fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faultnet import FaultNetwork, fault_network
from namespaces import missing_tools

from taxledger.ledger.errors import TaxledgerError
from taxledger.nodes.ordering.cometbft.binary import check_engine


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips where there are none, or no engine to run in them."""
    missing = missing_tools()
    if missing is not None:
        pytest.skip(f"needs network namespaces: {missing} (make system-deps, as root)")
    try:
        check_engine()
    except TaxledgerError as error:
        pytest.skip(f"needs CometBFT: {error}")


@pytest.fixture
def net(tmp_path: Path, namespaces: None) -> Iterator[FaultNetwork]:
    """Four members, running, with the tag key of 2025 on the ledger."""
    with fault_network(tmp_path / "net") as network:
        yield network


@pytest.fixture
def long_s() -> int:
    """How long a node stands still: a minute in the acceptance run."""
    return int(os.environ.get("TAXLEDGER_FAULTS_LONG_S", "4"))
