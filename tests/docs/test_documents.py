"""What the documents tell people to type works: their code blocks run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = {"README.md": 2, "docs/integration.md": 4}
"""Each document with the number of blocks it must have at least: a document without any would test nothing."""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_code_blocks_run_as_they_stand(name: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / name).read_text("utf-8"))
    assert len(blocks) >= DOCUMENTS[name]
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    try:
        for language, code in blocks:
            command = (
                ["bash", "-euo", "pipefail", "-c", code]
                if language == "bash"
                else [sys.executable, "-c", code]
            )
            done = subprocess.run(
                command,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{name}:\n{code}\n{done.stdout}\n{done.stderr}"
    finally:
        if (tmp_path / "net").exists():
            subprocess.run(
                [sys.executable, "-m", "taxledger.nodes.cli.main", "network", "stop", "net"],
                cwd=tmp_path,
                capture_output=True,
                check=False,
            )


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
)
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        if "://" not in target:
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document} links to {target}"
