"""Fixtures of several files."""

from __future__ import annotations

import pytest
from hsmkit import make_token


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of SoftHSM's library, with a token ready (see hsmkit)."""
    return make_token(tmp_path_factory.mktemp("softhsm"))
