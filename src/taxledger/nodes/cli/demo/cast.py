"""Who plays: made-up enterprises with every kind of record, attested by four issuers; their wallets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxledger.nodes.cli.attest import upload_plan
from taxledger.nodes.cli.attestplan import make_plan
from taxledger.nodes.cli.demo.stage import Stage
from taxledger.nodes.cli.demo.tale import Tale, tell
from taxledger.nodes.cli.output import connect, open_home, print_table

if TYPE_CHECKING:
    from taxledger.nodes.enterprise.wallet import Wallet
    from taxledger.nodes.generated_files import GeneratedFile
    from taxledger.nodes.generating import GeneratedEnterprise, GeneratedRow

__all__ = ["Cast", "attest", "attest_cast", "make_cast", "make_wallets", "red_letters", "short", "twin_sales"]

_MONTHS = 30
_SHARED = 25
_SEEDS = 1_000
_COUNTS = ("rows", "accepted", "amended", "duplicates", "rejected")
_CUSTODIANS = {
    "tax": ("tax",),
    "weak": ("tax",),
    "invoice": ("tax",),
    "twin": ("tax",),
    "procurement": ("procurement",),
    "electricity": ("tax", "electricity"),
}
"""Where each actor's key is registered: with the custodians that its loan asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The enterprises.

    Attributes:
        actors: by part; ``twin`` files sales of ``invoice`` as its own, ``weak`` has a bad grade.
        others: who only fill the files.
        wallets: by part, once they are made.
        through: the last day of the last month, through which everything is attested.
    """

    actors: Mapping[str, GeneratedEnterprise]
    others: Sequence[GeneratedEnterprise]
    through: str
    wallets: dict[str, Wallet] = field(default_factory=dict)

    @property
    def everyone(self) -> list[GeneratedEnterprise]:
        return [*self.actors.values(), *self.others]


def short(enterprise: GeneratedEnterprise) -> str:
    """How the demo calls an enterprise."""
    return f"{enterprise.name} ({enterprise.subject.removeprefix('uscc:')})"


def make_cast(seed: int, enterprises: int) -> Cast:
    """Enterprises with records of 30 months, the last of them the last full month; the same for a seed and a month."""
    from taxledger.nodes.generating import PROFILES, generate_enterprise, generate_twins
    from taxledger.nodes.generating.setting import shift_month

    last = shift_month(f"{datetime.now(UTC):%Y-%m}", -1)
    months = (shift_month(last, 1 - _MONTHS), last)
    first = seed * _SEEDS
    invoice, twin = generate_twins(first + _SEEDS - 1, *months, shared=_SHARED)
    actors = {
        "tax": generate_enterprise(first, "good", *months),
        "weak": generate_enterprise(first + 1, "grade_d", *months),
        "invoice": invoice,
        "twin": twin,
        "procurement": generate_enterprise(first + 2, "good", *months),
        "electricity": generate_enterprise(first + 3, "good", *months),
    }
    profiles = list(PROFILES)
    others = [
        generate_enterprise(first + 4 + at, profiles[at % len(profiles)], *months)
        for at in range(enterprises - len(actors))
    ]
    return Cast(actors=actors, others=others, through=invoice.through)


def twin_sales(cast: Cast) -> list[GeneratedRow]:
    """The sales that both twins file, the newest last, as the first one has them."""

    def named(row: GeneratedRow) -> tuple[object, ...]:
        return tuple(row.fields.get(name) for name in ("code", "number", "date", "net"))

    copies = {named(row) for row in cast.actors["twin"].records("vat_invoice")}
    shared = [row for row in cast.actors["invoice"].records("vat_invoice") if named(row) in copies]
    return sorted(shared, key=lambda row: str(row.fields["date"]))


def attest(home: Path, file: GeneratedFile) -> dict[str, Any]:
    """One file through its issuer's node; what became of its rows."""
    plan = make_plan([file.path], "csv", mapping=file.mapping, kind=file.kind)
    begin = time.monotonic()
    outcome = upload_plan(home, plan, through=file.through or None, quiet=True)
    return {
        "file": file.path.name,
        "kind": file.kind,
        **{name: outcome.sum(name) for name in _COUNTS},
        "through": outcome.through,
        "seconds": round(time.monotonic() - begin, 3),
    }


def attest_cast(stage: Stage, tale: Tale, cast: Cast) -> None:
    """The four issuers read their files and attest, side by side."""
    from taxledger.nodes.generating import write_enterprises

    with tale.step("Four issuers attest the records of made-up enterprises", "数据机构上链存证") as facts:
        sources = stage.folder / "sources"
        sources.mkdir()
        by_issuer: dict[str, list[GeneratedFile]] = {}
        for file in write_enterprises(cast.everyone, sources):
            by_issuer.setdefault(stage.issuer(file.kind), []).append(file)

        def work(issuer: str) -> list[dict[str, Any]]:
            return [{"issuer": issuer, **attest(stage.home(issuer), file)} for file in by_issuer[issuer]]

        with ThreadPoolExecutor(len(by_issuer), thread_name_prefix="attest") as pool:
            done = [row for rows in pool.map(work, by_issuer) for row in rows]
        print_table(
            ("  issuer", "file", *_COUNTS, "s"),
            [
                (
                    f"  {each['issuer']}",
                    each["file"],
                    *(f"{each[name]:,}" for name in _COUNTS),
                    f"{each['seconds']:.1f}",
                )
                for each in done
            ],
            right=range(2, 8),
        )
        records = sum(each["accepted"] for each in done)
        tell(f"{len(cast.everyone)} enterprises, {records:,} records, attested through {cast.through}")
        facts |= {"through": cast.through, "records": records, "files": done}
        facts["enterprises"] = [
            {"part": part, "subject": each.subject, "name": each.name} for part, each in cast.actors.items()
        ]
        for each in done:
            tale.expect(f"rows of {each['file']} that were rejected", each["rejected"], 0)


def make_wallets(stage: Stage, tale: Tale, cast: Cast) -> None:
    """A wallet for each actor; its key registered with every custodian that its loan will ask."""
    from taxledger.nodes.enterprise.wallet import create_wallet

    with tale.step(
        "Enterprises make wallets; custodians register their keys", "企业开立钱包并登记公钥"
    ) as facts:
        for part, made in cast.actors.items():
            name = made.subject.removeprefix("uscc:")
            cast.wallets[part] = create_wallet(stage.folder / f"{name}.wallet", made.subject)
        for custodian in sorted({each for names in _CUSTODIANS.values() for each in names}):
            with connect(open_home(stage.home(custodian))) as client:
                for part, names in _CUSTODIANS.items():
                    if custodian in names:
                        wallet = cast.wallets[part]
                        client.register_subject(
                            wallet.subject, wallet.public_key, authentication="identity card, at the counter"
                        )
        for part, made in cast.actors.items():
            tell(f"{short(made)}: registered with {', '.join(_CUSTODIANS[part])}")
        facts["registered"] = {cast.actors[part].subject: list(names) for part, names in _CUSTODIANS.items()}


def red_letters(cast: Cast, day: str) -> GeneratedEnterprise:
    """The invoice borrower's file of one day: all valid sales of its last month are taken back."""
    made = cast.actors["invoice"]
    month = cast.through[:7]
    named = {str(row.fields.get("original")) for row in made.rows["vat_invoice"]}
    sales = [
        row
        for row in made.records("vat_invoice")
        if str(row.fields["date"])[:7] == month
        and row.fields["direction"] == "sale"
        and row.status == 1
        and _amount(row, "net") > 0
        and row.fields["number"] not in named
    ]
    taken_back = [
        replace(
            row,
            fields={
                **{name: value for name, value in row.fields.items() if name != "code"},
                "number": f"{day[2:4]}11{9:02}{at:014}",
                "date": day,
                "original": row.fields["number"],
                **{name: -_amount(row, name) for name in ("net", "tax", "gross")},
            },
            cells={},
        )
        for at, row in enumerate(sales, start=1)
    ]
    rows = {kind: tuple(taken_back) if kind == "vat_invoice" else () for kind in made.rows}
    return replace(made, rows=rows, through=day)


def _amount(row: GeneratedRow, name: str) -> int:
    value = row.fields[name]
    assert type(value) is int
    return value
