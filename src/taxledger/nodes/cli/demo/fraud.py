"""Fraud that is stopped: the same invoices offered a second time under another name; a disclosure that was changed."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxledger.ledger.errors import VerificationError
from taxledger.nodes.cli.demo import lender
from taxledger.nodes.cli.demo.cast import Cast, twin_sales
from taxledger.nodes.cli.demo.lender import Request
from taxledger.nodes.cli.demo.loans import PLEDGED
from taxledger.nodes.cli.demo.stage import Stage
from taxledger.nodes.cli.demo.tale import Tale, tell
from taxledger.nodes.cli.output import money, write_file
from taxledger.nodes.cli.wording import refused_zh

if TYPE_CHECKING:
    from taxledger.api.client import Client, EventId
    from taxledger.ledger.answer import Answer
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.evidence import EvidenceFile
    from taxledger.lending.loans.loan import Loan

__all__ = ["tampered_disclosure", "twin_fraud"]

_CONTESTED = "taxledger.pledge.contested"


def twin_fraud(
    stage: Stage, tale: Tale, cast: Cast, first: LendingDesk, second: LendingDesk, pledged: Loan
) -> None:
    """Another enterprise filed the same sales; another bank can't have them as security, and both banks see it."""
    with tale.step(
        "Twin invoices: another enterprise offers them to another bank", "重复融资：孪生发票被拒"
    ) as facts:
        height = int(second.client.status()["height"])
        numbers = [str(row.fields["number"]) for row in twin_sales(cast)[-PLEDGED:]]
        request = Request(
            id="D-TWIN-1",
            product="invoice",
            name=cast.actors["twin"].name,
            wallet=cast.wallets["twin"],
            security=numbers,
        )
        loan = lender.apply(stage, "bank2", second, request)
        tale.expect("the twin's application, on its records alone", loan.state.value, "offered")
        limit = 0 if loan.offer is None else loan.offer.limit
        loan = lender.accept(second, loan, request, amount=limit, months=6)
        tale.expect("the twin's loan", loan.state.value, "failed")
        code = loan.reasons[0].code
        tale.expect("why", code, "pledge_contested")
        tell(f"refused 拒绝: {code} {refused_zh(code)}; nothing was paid 未放款")
        tale.expect("payments of the twin's loan", len(loan.draws), 0)
        seen = {name: _seen(desk.client, height) for name, desk in (("bank1", first), ("bank2", second))}
        for name, event in seen.items():
            tell(f"{name} sees {event['type']} at height {event['height']}")
        facts |= {"loan": lender.as_facts(second, "bank2", loan), "code": code, "events": seen}
        _whose(tale, first, pledged, facts)


def _seen(client: Client, height: int) -> dict[str, Any]:
    """The first contested pledge behind a height, as the bank's own node tells it."""
    from taxledger.api.client import EventId

    with closing(_contested(client, EventId.after_block(height))) as events:
        return next(events)


def _contested(client: Client, after: EventId) -> Generator[dict[str, Any], None, None]:
    for event in client.events(after):
        if event.type == _CONTESTED:
            yield {"type": event.type, "height": event.id.height, "id": str(event.id)}


def _whose(tale: Tale, desk: LendingDesk, loan: Loan, facts: dict[str, Any]) -> None:
    """The ledger's proof of who holds the invoices."""
    states = lender.pledge_states(desk, loan)
    holders = {pledge.member for state in states for pledge in state.pledges}
    most = max(state.pledged_ppm for state in states)
    tale.expect("who holds the pledges", holders, {desk.trust.recipient})
    tale.expect("at most the whole of each is pledged", most <= 1_000_000, True)
    tell(f"proved: {len(states)} invoices are pledged to bank1 alone, at most {most / 10_000:g} % of each")
    facts["pledged_ppm_max"] = most


# --- a changed disclosure -------------------------------------------------------------------------------


def tampered_disclosure(stage: Stage, tale: Tale, cast: Cast, desk: LendingDesk, loan: Loan) -> None:
    """A disclosure verifies offline and says what the source files said; with one yuan more it does not."""
    with tale.step(
        "A disclosure, verified offline; a tampered copy is refused", "离线验证；篡改被识破"
    ) as facts:
        file = max(desk.engine.evidence(loan).files, key=lambda each: len(each.data))
        path = stage.folder / f"{loan.application.subject.removeprefix('uscc:')}.disclosure"
        write_file(path, file.data, private=True)
        answer = _verify(stage, file, file.data, desk.trust.recipient)
        tell(f"{path.name}: {len(file.data):,} bytes, {len(answer.records):,} records, verified 已验证")
        _compare(tale, cast, answer)
        forged = _forge(file.data, answer)
        write_file(stage.folder / "tampered.disclosure", forged, private=True)
        tell("one invoice made larger by 1.00 in tampered.disclosure")
        try:
            _verify(stage, file, forged, desk.trust.recipient)
        except VerificationError as refusal:
            tell(f"refused 拒绝: {refusal}")
            tell(f"  expected {refusal.expected}")
            tell(f"  got      {refusal.got}")
            facts["code"] = refusal.code
        tale.expect("the tampered copy", facts.get("code"), "use_mismatch")
        facts["file"] = tale.data["disclosure"] = path.name
        tale.data.setdefault("verify", []).append(_command(stage, file, path, desk.trust.recipient))


def _verify(stage: Stage, file: EvidenceFile, data: bytes, recipient: int) -> Answer:
    import time

    from taxledger.ledger import limits
    from taxledger.ledger.disclosure import verify_disclosure
    from taxledger.ledger.policy import decode_policy

    return verify_disclosure(
        data,
        decode_policy(stage.policy.read_bytes()),
        file.query,
        recipient=recipient,
        now_ms=time.time_ns() // 1_000_000,
        age_ms_max=limits.answer_age_ms_default,
    ).answer


def _command(stage: Stage, file: EvidenceFile, path: Path, recipient: int) -> str:
    from taxledger.ledger.kinds import kind_name

    query = file.query
    kinds = " ".join(f"--kind {kind_name(kind)}" for kind in query.kinds)
    return (
        f"taxledger evidence verify {shlex.quote(stage.shown(path))} --policy {shlex.quote(stage.shown(stage.policy))} "
        f"--recipient {recipient} --subject {query.subject} --issuer {query.issuer} {kinds} "
        f"--from {query.from_period} --to {query.to_period}"
    )


def _compare(tale: Tale, cast: Cast, answer: Answer) -> None:
    """Hold the verified answer against sums taken straight from the generated rows."""
    from taxledger.ledger.answer import totals

    made = cast.actors["invoice"]
    first = answer.query.from_period
    for direction in ("sale", "purchase"):
        rows = [
            row
            for row in made.records("vat_invoice")
            if row.status == 1
            and row.fields["direction"] == direction
            and str(row.fields["date"])[:7] >= first
        ]
        expected = tuple(_sum(row.fields[name] for row in rows) for name in ("net", "tax", "gross"))
        found = [
            row
            for row in totals(answer)
            if row["kind"] == "vat_invoice"
            and row["direction"] == direction
            and row["status"] in ("valid", "reversed")
        ]
        got = tuple(sum(row[name] for row in found) for name in ("net", "tax", "gross"))
        tale.expect(f"sums of {direction}", got, expected)
        shown = " ".join(
            f"{name} {money(value):>14}" for name, value in zip(("net", "tax", "gross"), got, strict=True)
        )
        tell(f"{direction:8} sums equal those of the source files to the cent: {shown}")


def _sum(values: Iterable[Any]) -> int:
    return sum(int(each) for each in values)


def _forge(data: bytes, answer: Answer) -> bytes:
    """One invoice larger by a yuan, as someone on the way could make it."""
    from taxledger.ledger import canonical

    record = next(each for each in answer.records if each.values and "gross" in each.schema.position)
    values = list(record.values or ())
    at = record.schema.position["gross"]
    before = canonical.encode(values)
    values[at] = int(values[at] or 0) + 100
    return data.replace(before, canonical.encode(values), 1)
