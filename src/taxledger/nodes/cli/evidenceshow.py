"""A verified answer for people: totals, completeness, who attested and who co-signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taxledger.nodes.cli.output import money, print_table, say
from taxledger.nodes.cli.wording import STATUSES_ZH, complete_zh, erased_zh, verified_zh

if TYPE_CHECKING:
    from taxledger.ledger.answer import Answer

__all__ = ["print_answer", "print_erased", "print_totals"]

_MONEY_COLUMNS = ("net", "tax", "gross")


def _ago(age_ms: int) -> str:
    seconds = age_ms // 1_000
    if seconds < 120:
        return f"{max(seconds, 0)} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h"


def _sum(row: Mapping[str, Any], name: str) -> str:
    """A sum; nothing where the kind has no such field, a dash where records do not show it."""
    if name not in row:
        return ""
    return "-" if row[name] is None else money(row[name], row["currency"] or "CNY")


def print_totals(rows: Sequence[Mapping[str, Any]]) -> None:
    """Counts and sums as a table, in the currency's main unit."""
    columns = [name for name in _MONEY_COLUMNS if any(name in row for row in rows)]
    table = []
    for row in rows:
        sums = [_sum(row, name) for name in columns]
        table.append(
            (
                row["kind"],
                row["direction"] or "",
                f"{row['status']} {STATUSES_ZH[row['status']]}",
                row["currency"] or "",
                row["count"],
                *sums,
            )
        )
    head = ("kind", "direction", "status", "currency", "count", *columns)
    print_table(head, table, right=range(4, len(head)))


def _issuer_line(answer: Answer) -> str:
    issuer = answer.issuer
    if issuer is None:
        number = answer.query.issuer
        return f"issuer: the ledger has no member {number}\n签发机构：账本上没有 {number} 号成员"
    state = "" if issuer.is_active else ", no longer active"
    return f"issuer: {issuer.name}, member {issuer.number}{state}"


def print_erased(records: int) -> None:
    """How many records are erased, where any is: they count towards completeness, and can't be read."""
    if records:
        say(f"{records:,} records erased: they were there, and can't be shown any more\n{erased_zh(records)}")


def print_answer(answer: Answer) -> None:
    """A verified answer, for people."""
    from taxledger.ledger.answer import totals
    from taxledger.ledger.schemas import kind_name

    signers = len(answer.checkpoint.cosign_lines)
    say(
        f"verified: height {answer.height}, log size {answer.size}, "
        f"co-signed by {signers} validators, the oldest {_ago(answer.age_ms)} ago"
    )
    say(verified_zh(answer.height, signers, answer.age_ms // 1_000))
    say(_issuer_line(answer))
    for kind, date in answer.through.items():
        if date is None:
            say(f"{kind_name(kind)}: the issuer makes no statement on completeness")
        else:
            held = "the whole range" if answer.complete(kind) else "not the whole range"
            say(f"{kind_name(kind)}: complete through {date} ({held})")
        say(f"{kind_name(kind)}: {complete_zh(date, whole=answer.complete(kind))}")
    if answer.records:
        print_totals(totals(answer))
        print_erased(answer.erased)
    else:
        say("no records: proved to be absent\n没有记录：已证明不存在")
