"""Fixtures of several files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hsmkit import make_token
from signedkit import Signed, recording


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of SoftHSM's library, with a token ready (see hsmkit)."""
    return make_token(tmp_path_factory.mktemp("softhsm"))


@pytest.fixture(autouse=True)
def honest_signatures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signed]:
    """In every test of nodes, whatever it does to them: nothing that honest ones signed convicts them."""
    with recording(monkeypatch) as signed:
        yield signed
    signed.check()
