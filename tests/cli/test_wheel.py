"""The wheel as a stranger installs it: into an empty environment, outside the clone, without the extras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(each) for each in command], cwd=cwd, env=environment, capture_output=True, text=True, check=check
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


def test_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "taxledger/ledger/verify.py" in names
    assert "taxledger/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith("taxledger") for name in names)


def test_verifies_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    pip = [sys.executable, "-m", "pip", "--python", "env/bin/python"]
    installed = run(*pip, "install", "--quiet", "--no-compile", wheel, cwd=tmp_path, check=False)
    if installed.returncode:
        assert "No matching distribution" in installed.stderr, installed.stderr
        pytest.skip("needs the package registry")
    present = run(*pip, "list", "--format=freeze", cwd=tmp_path).stdout
    assert "taxledger==" in present
    assert "plyvel" not in present
    assert "fastapi" not in present
    vectors = json.loads((ROOT / "tests" / "vectors" / "evidence.json").read_bytes())
    good = vectors["accepted"][0]
    subject, issuer, kinds, first, last = good["query"]
    (tmp_path / "policy.txt").write_text(vectors["policy"])
    (tmp_path / "good.evidence").write_bytes(bytes.fromhex(good["evidence"]))
    (tmp_path / "bad.evidence").write_bytes(bytes.fromhex(good["evidence"])[:-1])
    question = ["--subject", subject, "--issuer", issuer, "--from", first, "--to", last]
    question += [each for kind in kinds for each in ("--kind", kind)]
    question += ["--policy", "policy.txt", "--at", vectors["now_ms"]]
    said = run("env/bin/taxledger", "evidence", "verify", "good.evidence", *question, cwd=tmp_path)
    assert said.stdout.startswith("verified: height")
    said = run(
        "env/bin/taxledger", "evidence", "verify", "bad.evidence", *question, cwd=tmp_path, check=False
    )
    assert (said.returncode, said.stderr) == (1, "")
    assert said.stdout.startswith("refused: not_canonical")
    assert "taxledger[node]" in run("env/bin/taxledger", "demo", cwd=tmp_path, check=False).stderr
