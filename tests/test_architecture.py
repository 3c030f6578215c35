"""The layers: who may import what. Read from the source, nothing is imported.

ledger   →  standard library (no clock, sockets, randomness), each third-party library in one file
nodes    →  ledger, api.reader, api.custody, api.pledging (Protocols)     api → ledger     api/client: needs no FastAPI
lending  →  ledger, api.client; lending/service also the frame around requests: api.framing, middleware, parsing …
nodes/cli, and the entry point of the node process, are composition roots: they alone import everything
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src"
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}

COMPOSITION_ROOTS = ("taxledger.nodes.cli", "taxledger.nodes.node")

# In this order: the first prefix that fits a module decides.
LAYERS: list[tuple[str, tuple[str, ...]]] = [
    *((root, ("taxledger",)) for root in COMPOSITION_ROOTS),
    ("taxledger.ledger", ("taxledger.ledger",)),
    # Protocols and their values: what the API asks of a node, so that a node can answer it.
    (
        "taxledger.nodes",
        (
            "taxledger.ledger",
            "taxledger.nodes",
            "taxledger.api.reader",
            "taxledger.api.custody",
            "taxledger.api.pledging",
        ),
    ),
    ("taxledger.api", ("taxledger.ledger", "taxledger.api")),
    # Its web edge shares the node API's frame around requests; keys come from the composition root.
    (
        "taxledger.lending.service",
        (
            "taxledger.ledger",
            "taxledger.lending",
            "taxledger.api.events",
            "taxledger.api.framing",
            "taxledger.api.middleware",
            "taxledger.api.parsing",
            "taxledger.api.problems",
        ),
    ),
    # A user of the client, and nothing more.
    (
        "taxledger.lending",
        ("taxledger.ledger", "taxledger.lending", "taxledger.api.client", "taxledger.api.events"),
    ),
    ("taxledger", ()),
]

ONE_FILE = {
    "msgpack": "taxledger.ledger.canonical",
    "plyvel": "taxledger.ledger.leveldb",
    "aiohttp": "taxledger.nodes.peering.transport",
    "pkcs11": "taxledger.nodes.sealed.hsm",
    "defusedxml": "taxledger.nodes.sources.xmlreader",
    "standardwebhooks": "taxledger.lending.watch.webhooks",
    "jinja2": "taxledger.lending.report.html",
    "fpdf": "taxledger.lending.report.pdf",
    "fontTools": "taxledger.lending.report.fonts",
}
"""Libraries that one file alone may import (``cryptography``: one file of the core)."""

LOAN_DATABASE = ("database", "schema", "store", "migrations.env", "migrations.versions")
ONE_PART = {
    "sqlalchemy": tuple(f"taxledger.lending.loans.{each}" for each in LOAN_DATABASE),
    "alembic": tuple(f"taxledger.lending.loans.{each}" for each in LOAN_DATABASE),
}
"""Libraries of one part: its modules alone may import them. psycopg is nowhere imported: SQLAlchemy finds it."""

CORE_LIBRARIES = {"msgpack", "plyvel", "cryptography"}
CLIENT_LIBRARIES = {"httpx", "tenacity", "msgpack", "cryptography"}
BASE_ONLY = (
    "taxledger.nodes.home",
    "taxledger.nodes.homeconfig",
    "taxledger.nodes.vaultconfig",
    "taxledger.nodes.local.control",
    "taxledger.nodes.local.lifeline",
)
"""Modules that work with the standard library alone."""

IMPURE = {
    *(
        "asyncio",
        "http",
        "locale",
        "multiprocessing",
        "os",
        "random",
        "secrets",
        "select",
        "signal",
        "socket",
    ),
    *("ssl", "subprocess", "tempfile", "time", "urllib", "uuid", "sys"),
}


def layer(module: str) -> tuple[str, tuple[str, ...]]:
    return next(each for each in LAYERS if module == each[0] or module.startswith(f"{each[0]}."))


def imports(module: str) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything a module imports, also inside functions."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (
                    node.lineno,
                    whole if whole in MODULES or f"{whole}.__init__" in MODULES else node.module,
                )


def violations() -> Iterator[str]:
    for module in MODULES:
        name = module.removesuffix(".__init__")
        prefix, allowed = layer(name)
        for line, imported in imports(module):
            where = f"{name}:{line} imports {imported}"
            top = imported.partition(".")[0]
            if top == "taxledger":
                if imported != "taxledger" and not any(
                    imported == each or imported.startswith(f"{each}.") for each in allowed
                ):
                    yield f"{where}: {prefix} may import {', '.join(allowed) or 'nothing of ours'}"
                continue
            if top in sys.stdlib_module_names:
                if prefix == "taxledger.ledger" and top in IMPURE:
                    yield f"{where}: the core has no effects"
                continue
            if ONE_FILE.get(top, name) != name:
                yield f"{where}: only {ONE_FILE[top]} may"
            if not name.startswith(ONE_PART.get(top, ("",))):
                yield f"{where}: only the database of loans may"
            if prefix == "taxledger.ledger" and top not in CORE_LIBRARIES:
                yield f"{where}: the core may import {', '.join(sorted(CORE_LIBRARIES))}"
            if prefix == "taxledger.ledger" and top == "cryptography" and name != "taxledger.ledger.crypto":
                yield f"{where}: only taxledger.ledger.crypto may"
            if name in BASE_ONLY:
                yield f"{where}: expected the standard library alone"


def reached(start: str) -> Iterator[str]:
    """Every module of ours that importing the packages below ``start`` runs."""
    waiting = [each for each in MODULES if each.startswith(start)]
    seen = set(waiting)
    while waiting:
        module = waiting.pop()
        yield module
        for _, imported in imports(module):
            parts = imported.split(".")
            for depth in range(1, len(parts) + 1):
                name = ".".join(parts[:depth])
                found = name if name in MODULES else f"{name}.__init__"
                if found in MODULES and found not in seen:
                    seen.add(found)
                    waiting.append(found)


def test_client_needs_no_node_packages() -> None:
    for module in reached("taxledger.api.client"):
        for line, imported in imports(module):
            top = imported.partition(".")[0]
            allowed = top in sys.stdlib_module_names | CLIENT_LIBRARIES | {"taxledger"}
            assert allowed, f"{module}:{line} imports {imported}, and the client imports {module}"


def test_layers() -> None:
    found = list(violations())
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", [each for each in MODULES if each.startswith("taxledger.ledger")])
def test_core_has_no_floats(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), (
            f"{module}:{node.lineno}: a float literal"
        )
        assert not (isinstance(node, ast.Name) and node.id in {"float", "hash"}), (
            f"{module}:{node.lineno}: {node.id} depends on the platform or the process"
        )
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)) or _joins_paths(node), (
            f"{module}:{node.lineno}: true division gives a float"
        )


def _joins_paths(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (node.left, node.right)
    )


@pytest.mark.parametrize("module", list(MODULES))
def test_modules_stay_readable(module: str) -> None:
    lines = MODULES[module].read_text("utf-8").count("\n")
    assert lines <= 400, f"{module} has {lines} lines: split it"


def test_no_two_modules_of_tests_have_one_name() -> None:
    """Folders of tests are no packages: the second of two would be taken for the first, and not run."""
    seen: dict[str, Path] = {}
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        if (path.parent / "__init__.py").exists() or path.name == "conftest.py":
            continue
        assert path.name not in seen, f"{path} and {seen[path.name]}"
        seen[path.name] = path


def test_the_rules_bite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "taxledger.ledger.bad": "import time\nimport httpx\nfrom taxledger.nodes import home\n",
        "taxledger.nodes.bad": "from taxledger.api import auth\nimport plyvel\n",
        "taxledger.api.client.bad": "from taxledger.nodes import home\n",
    }
    paths = {}
    for module, text in wrong.items():
        paths[module] = tmp_path / f"{module}.py"
        paths[module].write_text(text)
    monkeypatch.setattr(
        "test_architecture.MODULES" if __name__ == "test_architecture" else f"{__name__}.MODULES", paths
    )
    found = [line.split(" imports ")[1].split(":")[0] for line in violations()]
    assert found == ["time", "httpx", "taxledger.nodes", "taxledger.api", "plyvel", "taxledger.nodes"]
