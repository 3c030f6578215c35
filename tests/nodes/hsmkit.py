"""A SoftHSM token for tests: in a folder of its own, made once a session (the library reads its settings once)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PIN = "4711-pin"
TOKEN = "tests"
LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


def softhsm_module() -> str:
    """Path of the library; skips the test where SoftHSM is not installed."""
    found = next((path for path in LIBRARIES if Path(path).exists()), None)
    if found is None or shutil.which("softhsm2-util") is None:
        pytest.skip("needs SoftHSM: make system-deps")
    return found


def make_token(folder: Path) -> str:
    """Makes the token and sets the environment for this process and its children; the library's path."""
    module = softhsm_module()
    (folder / "tokens").mkdir()
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(settings)
    made = ["softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", "so-pin-1"]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    return module


def write_pin(path: Path, pin: str = PIN) -> Path:
    path.write_text(f"{pin}\n")
    path.chmod(0o600)
    return path
