"""A custodian for tests: a vault in a folder, a ledger that executes the real rules, and ways to fail it."""

from __future__ import annotations

import csv
import functools
import gzip
import itertools
import os
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import chainkit

from taxledger.ledger import canonical, hashing
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.crypto import TagSigner
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.records import commit, decode_record_value, tag_of
from taxledger.ledger.rules import decode_result
from taxledger.ledger.schemas import Row, Schema
from taxledger.ledger.transaction import decode_transaction
from taxledger.nodes.custodian import tags as tags_module
from taxledger.nodes.custodian import vault as vault_module
from taxledger.nodes.custodian.outbox import Receipt
from taxledger.nodes.custodian.report import UploadOutcome
from taxledger.nodes.custodian.upload import Uploader
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.home import write_secret
from taxledger.nodes.sealed.providers import FileKeyProvider
from taxledger.nodes.sources.cumcm import CumcmSource
from taxledger.nodes.sources.rows import Source

KEY = bytes(range(32))
NOW_S = chainkit.TIME_MS // 1_000
INVOICE = next(each for each in BUILTIN if each.name == "vat_invoice")
COUNTS = ("rows", "accepted", "amended", "duplicates", "rejected")
DATA = Path(os.environ.get("TAXLEDGER_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
CUMCM = DATA / "cumcm2020c"


_loaded = functools.cache(TagSigner)


def stored_tag_keys() -> list[bytes]:
    """RSA keys made beforehand: making one takes longer than a test."""
    text = (Path(__file__).parents[1] / "vectors" / "tag_keys.txt").read_text()
    return [bytes.fromhex(line) for line in text.split() if len(line) > 1000]


class Ledger:
    """A submitter over a chain in memory that executes every transaction in a block of its own.

    Attributes:
        fail_before, fail_after: numbers of submissions (from 0) that raise without, or after, having counted.
        refuse: code to answer by operation instead of executing.
        slow: operations that take a while before they count.
    """

    def __init__(self) -> None:
        kinds = tuple(sorted({each.kind for each in BUILTIN}))
        genesis = chainkit.make_genesis()
        members = tuple(
            each if each.number != chainkit.ISSUER else chainkit.client(chainkit.ISSUER, "tax", kinds=kinds)
            for each in genesis.members
        )
        self.chain = chainkit.TestChain(chainkit.make_genesis(members=members))
        self.receipts: dict[bytes, Receipt] = {}
        self.submitted: list[bytes] = []
        self.fail_before: set[int] = set()
        self.fail_after: set[int] = set()
        self.refuse: dict[str, int] = {}
        self.slow: set[str] = set()
        self._lock = threading.Lock()

    def clock(self) -> float:
        return self.chain.time_ms / 1_000

    def submit(self, raw: bytes) -> Receipt:
        if any(operation.encode() in raw for operation in self.slow):
            time.sleep(0.1)
        with self._lock:
            number = len(self.submitted)
            self.submitted.append(raw)
            if number in self.fail_before:
                raise UnavailableError(f"submission {number} was lost")
            id_ = hashing.log_leaf(raw)
            if id_ not in self.receipts:
                self._execute(id_, raw)
            if number in self.fail_after:
                raise UnavailableError(f"the answer to submission {number} was lost")
            return self.receipts[id_]

    def _execute(self, id_: bytes, raw: bytes) -> None:
        for operation, code in self.refuse.items():
            if operation.encode() in raw:
                self.receipts[id_] = Receipt(code=code)
                return
        executed = self.chain.add(raw)
        if executed.skipped:
            raise RefusedError(executed.skipped[0][1], "skipped")
        result = decode_result(executed.results[0])
        self.receipts[id_] = Receipt(
            code=result.code, first_refused=result.first_refused, height=executed.header.height
        )

    def find(self, id: bytes) -> Receipt | None:
        return self.receipts.get(id)

    def records(self) -> dict[bytes, Any]:
        """The records on the ledger: decoded value by key."""
        return {key: decode_record_value(value) for key, value in self.chain.view.scan(b"\x01")}


def key_file(folder: Path, key: bytes = KEY) -> FileKeyProvider:
    """The provider of a key file in a folder of its own, which is made where it is missing."""
    path = folder / "keys" / f"{key.hex()[:8]}-{len(key)}.key"
    if not path.exists():
        write_secret(path, key.hex().encode())
    return FileKeyProvider(path)


class Custody:
    """A vault and its ledger."""

    def __init__(self, folder: Path, ledger: Ledger | None = None) -> None:
        self.folder = folder
        self.ledger = ledger or Ledger()
        self.vault = self.open()

    def open(self) -> Vault:
        return Vault.open(
            self.folder / "vault.sqlite",
            key_file(self.folder),
            chain_id=self.ledger.chain.chain_id,
            member=chainkit.ISSUER,
        )

    def reopen(self) -> None:
        """As a new process would."""
        self.vault.close()
        self.vault = self.open()

    def uploader(self, **options: Any) -> Uploader:
        options.setdefault("clock", self.ledger.clock)
        signer = options.pop("signer", chainkit.signer(chainkit.ISSUER))
        return Uploader(self.vault, signer, self.ledger, **options)

    def upload(
        self, *paths: Path, source: Source | None = None, through: str | None = None, dry_run: bool = False,
        **options: Any,
    ) -> UploadOutcome:  # fmt: skip
        outcome = self.uploader(**options).upload(
            paths, source or CumcmSource(), through=through, dry_run=dry_run
        )
        for each in outcome.files:
            assert each.accepted + each.amended + each.duplicates + each.rejected == each.rows
            assert len(each.rejections) == each.rejected
        return outcome

    def verify(self) -> None:
        """Every record on the ledger opens from the vault, and the vault claims none that is not there."""
        on_ledger = self.ledger.records()
        keys = [(key, value.version) for key, value in on_ledger.items()]
        opened = self.vault.open_many(keys)
        schemas = {(each.kind, each.number): each for each in BUILTIN}
        for (key, version), found in zip(keys, opened, strict=True):
            assert found is not None, f"no secret for {key.hex()} version {version}"
            secret, values = found
            schema = schemas[key[3], on_ledger[key].schema]
            expected = commit(schema, self.ledger.chain.chain_id, key, version, secret, values)
            assert expected == on_ledger[key].commitment
        stored = {
            row[0]: row[1:]
            for row in self.vault.database.all("SELECT key, max(version) FROM records GROUP BY key")
        }
        assert {key: (value.version,) for key, value in on_ledger.items()} == stored
        assert not self.vault.database.all("SELECT 1 FROM outbox WHERE state = 0")
        assert not self.vault.database.all("SELECT 1 FROM staged")


def counts(outcome: UploadOutcome) -> tuple[int, ...]:
    """(rows, accepted, amended, duplicates, rejected) over all files."""
    return tuple(outcome.sum(name) for name in COUNTS)


def codes(outcome: UploadOutcome, which: str = "rejections") -> list[tuple[int, str]]:
    """(line, code) of all rejections or warnings, in order of lines."""
    return sorted((bad.line, bad.code) for each in outcome.files for bad in getattr(each, which))


HEADER = ["", "企业代号", "发票号码", "开票日期", "购方单位代号", "金额", "税额", "价税合计", "发票状态"]


def write_cumcm(path: Path, rows: Iterable[Sequence[str]], *, purchases: bool = False) -> Path:
    """A file as CUMCM's; a row is (enterprise, number, date, party, net, tax, gross, status)."""
    header = [each.replace("购方", "销方") if purchases else each for each in HEADER]
    with path.open("w", encoding="utf-8-sig", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows([str(number), *row] for number, row in enumerate(rows, 1))
    return path


def row(
    number: int | str,
    *,
    date: str = "2019/3/5",
    party: str = "B1",
    net: str = "100.0",
    tax: str = "13.0",
    gross: str | None = None,
    status: str = "有效发票",
    enterprise: str = "E1",
) -> tuple[str, ...]:
    """One row for ``write_cumcm``."""
    total = gross if gross is not None else f"{float(net) + float(tax):.2f}"
    return enterprise, str(number), date, party, net, tax, total, status


def tags_of(vault: Vault, subject: str, schema: Schema = INVOICE) -> dict[int, bytes]:
    """Tag by year of a subject."""
    found = {}
    for year in vault.years():
        sigma = vault.sigma(subject, schema.kind, year)
        if sigma is not None:
            found[year] = tag_of(sigma)
    return found


def state(custody: Custody, **wanted: Any) -> list[tuple[int, int]]:
    """(status, version) on the ledger of the records whose fields are as wanted."""
    found = []
    for key, value in custody.ledger.records().items():
        opened = custody.vault.record(key, value.version)
        assert opened is not None
        named = named_values(opened.values)
        if all(named.get(name) == each for name, each in wanted.items()):
            found.append((int(value.status), value.version))
    return sorted(found)


def named_values(values: Row, schema: Schema = INVOICE) -> dict[str, Any]:
    return dict(schema.named(values))


def unpacked(path: Path) -> str:
    """The text of a gzipped CSV."""
    return gzip.decompress(path.read_bytes()).decode("utf-8-sig")


def use_stored_keys(monkeypatch: Any) -> None:
    """Tag keys from the file instead of fresh ones, each loaded once: loading checks its primes for long."""
    keys = itertools.cycle(stored_tag_keys())
    for module in (vault_module, tags_module):
        monkeypatch.setattr(module, "TagSigner", _loaded)
    monkeypatch.setattr(_loaded, "generate_der", lambda: next(keys), raising=False)


def decoded_transactions(custody: Custody) -> list[Any]:
    """Payloads as decoded arrays, in log order."""
    return [
        canonical.decode(decode_transaction(leaf).payload)
        for block in custody.ledger.chain.blocks
        for leaf in block.executed.leaves
    ]
