"""The nine products on attested data: approved, refused on each rule, "incomplete" where evidence is wanting."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..borrowing import application, apply_all, documented, outcomes, pledge_all, recomputed
from ..madeup import AS_OF, LATER, PRODUCTS, RANGE, MadeUp, made_up, quantity, threshold
from ..stage import Finding, Line, Stage, check

_CLOSED = ("amount", "grade", "loans_open", "net", "sales", "usage_wh", "valid_until", "value")
"""Of every kind that a product reads, a field that it needs."""
_SECURITY = {"procurement": "procurement_award", "engineering": "engineering_contract"}
_PLEDGED_PPM = 400_000
Became = dict[str, Any]


def run(stage: Stage) -> Iterator[Finding]:
    made = made_up(stage)
    rows = ", ".join(f"{count:,} {kind}" for kind, count in made.rows.items())
    yield check(f"attested of {len(made.subjects)} made-up enterprises", rows, all(made.rows.values()))
    yield from _pledge_elsewhere(stage, made)
    became = apply_all(stage, made.net, "walks-out", _wanted(made))
    seconds = sorted(each["seconds"] for each in became)
    yield check(
        "applications",
        f"{len(became)}; from the signed consent to the decision median {seconds[len(seconds) // 2]:.2f} s, "
        f"slowest {seconds[-1]:.2f} s",
    )
    by_id = {each["id"]: each for each in became}
    yield from _approved(by_id)
    yield from _paid_out(by_id)
    yield from _secured(by_id)
    yield from _refused(made, by_id)
    for office in ("tax", "works"):
        by_id |= _silent(stage, made, office)
    yield from _incomplete(by_id)
    yield recomputed(stage, made.net, "walks-out")
    yield documented(stage, "product-walks.md", "products", _document(made, by_id))


# --- what is applied for --------------------------------------------------------------------------


def _wanted(made: MadeUp) -> list[Became]:
    """Each product by the good one, by each enterprise that breaks one of its rules, and with evidence wanting."""
    found = []
    for product in PRODUCTS:
        found.append(_application(made, "good", product, "approved", pay_out=True))
        found.append(_application(made, "good", product, "late", as_of=LATER))
        found.append(_application(made, "good", product, "closed", closed=_CLOSED))
        found += [
            _application(made, profile, product, profile)
            for profile, broken in made.breaks.items()
            if product in broken
        ]
        if product in _SECURITY:
            found.append(_application(made, "good too", product, "pledged"))
    for case, profile in (("secured", "good"), ("taken", "good too")):
        offers = [made.offered["vat_invoice"][made.subjects[profile]]]
        found.append(_application(made, profile, "invoice", case, offers=offers, pay_out=True))
    return found


def _application(
    made: MadeUp, profile: str, product: str, case: str, as_of: str = AS_OF, **more: Any
) -> Became:
    subject = made.subjects[profile]
    if product in _SECURITY:
        number = made.offered[_SECURITY[product]].get(subject)
        more["offers"] = [] if number is None else [number]
    return {**application(subject, product, as_of, **more), "id": f"{product}-{case}"}


def _pledge_elsewhere(stage: Stage, made: MadeUp) -> Iterator[Finding]:
    """Another bank takes a share of what the other good enterprise will offer, and all of an invoice."""
    subject = made.subjects["good too"]
    for kind, issuer, ppm in (
        ("procurement_award", 4, _PLEDGED_PPM),
        ("engineering_contract", 4, _PLEDGED_PPM),
        ("vat_invoice", 3, 1_000_000),
    ):
        offer = {
            "subject": subject, "kind": kind, "issuer": issuer, "from": RANGE[0], "to": RANGE[1],
            "numbers": [made.offered[kind][subject]],
        }  # fmt: skip
        (said,) = pledge_all(stage, made.net, f"walks-pledges-{kind}", "bank2", [offer], ppm=ppm)
        codes = [one["became"] for one in said["records"]]
        yield check(f"pledged at another bank: {kind}", f"{ppm // 10_000} %: {codes}", codes == ["placed"])


def _silent(stage: Stage, made: MadeUp, office: str) -> dict[str, Became]:
    """The products that ask an office, while its node is down; the other three go on."""
    wanted = [
        _application(made, "good", product, f"silent-{office}")
        for product, asked in PRODUCTS.items()
        if office in asked
    ]
    made.net.stop("--member", office)
    try:
        became = apply_all(stage, made.net, f"silent-{office}-out", wanted)
    finally:
        made.net.start("--member", office)
    return {each["id"]: each for each in became}


# --- what has to be -------------------------------------------------------------------------------


def _approved(by_id: Mapping[str, Became]) -> Iterator[Finding]:
    for product in PRODUCTS:
        decision = by_id[f"{product}-approved"]["decision"]
        rules = decision["rules"]
        passed = sum(each["verdict"] == "pass" for each in rules)
        ok = decision["outcome"] == "approve" and passed == len(rules) and decision["limit"] > 0
        yield check(
            f"{product}, a good enterprise",
            f"{decision['outcome']}: {passed} of {len(rules)} rules met, limit {decision['limit'] / 100:,.2f}, "
            f"{quantity('ppm', decision['rate_ppm'])}" + "".join(f"; {one}" for one in outcomes(decision)),
            ok,
        )


def _paid_out(by_id: Mapping[str, Became]) -> Iterator[Finding]:
    """From application to pay-out: one payment file each, over what the enterprise chose, to the account it may."""
    for product in PRODUCTS:
        became = by_id[f"{product}-approved"]
        paid = became["paid"] or {"state": became["state"], "files": [], "pledges": [], "reasons": []}
        orders = [_order(Path(each)) for each in paid["files"]]
        right = orders == [(f"{paid.get('amount', 0) / 100:.2f}", paid.get("account"))]
        secured = len(paid["pledges"]) == (product in _SECURITY)
        seconds = became["seconds"] + paid.get("seconds", 0)
        yield check(
            f"{product}, from application to pay-out",
            f"{paid['state']} in {seconds:.2f} s: {', '.join(amount for amount, _ in orders) or 'nothing'} CNY in "
            f"{len(orders)} payment file, {len(paid['pledges'])} pledged; repaid: {paid.get('after')}"
            + "".join(f"; {one}" for one in paid["reasons"]),
            paid["state"] == "paid_out" and right and secured and paid["after"] == "closed",
        )


def _secured(by_id: Mapping[str, Became]) -> Iterator[Finding]:
    """An invoice offered as security is pledged before anything is paid; where it can't be, nothing is."""
    secured, taken = (by_id[f"invoice-{case}"]["paid"] or {} for case in ("secured", "taken"))
    yield check(
        "invoice, with an invoice as security",
        f"{secured.get('state')}, {len(secured.get('pledges', ()))} pledged; repaid: {secured.get('after')}",
        (secured.get("state"), len(secured.get("pledges", ())), secured.get("after"))
        == ("paid_out", 1, "closed"),
    )
    yield check(
        "invoice, with one that another bank has",
        f"{taken.get('state')}: {', '.join(taken.get('reasons', ()))}; {len(taken.get('files', ()))} payment files",
        (taken.get("state"), taken.get("reasons"), taken.get("files")) == ("failed", ["pledge_exceeds"], []),
    )


def _order(path: Path) -> tuple[str, str]:
    """(amount, creditor's account) of a payment file."""
    tree = ElementTree.parse(path)
    amount = next(each.text for each in tree.iter() if each.tag.endswith("}InstdAmt"))
    creditor = next(each for each in tree.iter() if each.tag.endswith("}CdtrAcct"))
    account = next(
        each.text for each in creditor.iter() if each.tag.endswith(("}Id", "}IBAN")) and not len(each)
    )
    return str(amount), str(account)


def _refusals(made: MadeUp, by_id: Mapping[str, Became], product: str) -> dict[str, tuple[str, Became]]:
    """By rule, the (case, decision) that fails on it, and on as little else as there is."""
    found: dict[str, tuple[str, Became]] = {}
    cases = [each for each, broken in made.breaks.items() if product in broken]
    for case in [*cases, "pledged"] if product in _SECURITY else cases:
        decision = by_id[f"{product}-{case}"]["decision"]
        for rule in decision["rules"]:
            known = found.get(rule["id"])
            fewer = known is None or len(decision["reasons"]) < len(known[1]["reasons"])
            if rule["verdict"] == "refuse" and fewer:
                found[rule["id"]] = (case, decision)
    return found


def _refused(made: MadeUp, by_id: Mapping[str, Became]) -> Iterator[Finding]:
    wrong = []
    for profile, broken in made.breaks.items():
        for product, rules in broken.items():
            decision = by_id[f"{product}-{profile}"]["decision"]
            failed = [each["id"] for each in decision["rules"] if each["verdict"] != "pass"]
            if decision["outcome"] != "refuse" or sorted(failed) != sorted(rules):
                wrong.append(f"{product} of {profile}: {decision['outcome']} on {failed}, expected {rules}")
    cases = sum(map(len, made.breaks.values()))
    yield check(
        "each that breaks rules is refused on those, and on no other",
        f"{cases} of {len(made.breaks)} profiles" + "".join(f"; {each}" for each in wrong[:4]),
        not wrong,
    )
    for product in PRODUCTS:
        rules = [each["id"] for each in by_id[f"{product}-approved"]["decision"]["rules"]]
        refused = _refusals(made, by_id, product)
        alone = sum(len(decision["reasons"]) == 1 for _, decision in refused.values())
        missing = sorted(set(rules) - set(refused))
        yield check(
            f"{product}, refused on each rule",
            f"{len(refused)} of {len(rules)}, {alone} of them for that alone"
            + "".join(f"; not on {each}" for each in missing),
            not missing,
        )


_WANTING = {"late": "not_attested_through", "closed": "fields_closed"}


def _wanting(by_id: Mapping[str, Became], product: str) -> dict[str, Became]:
    """By reason, the decision on evidence that wants for it."""
    found = {code: by_id[f"{product}-{case}"]["decision"] for case, code in _WANTING.items()}
    for office in PRODUCTS[product]:
        found[f"custodian_silent, {office}"] = by_id[f"{product}-silent-{office}"]["decision"]
    return found


def _incomplete(by_id: Mapping[str, Became]) -> Iterator[Finding]:
    for product in PRODUCTS:
        wrong = []
        cases = _wanting(by_id, product)
        for reason, decision in cases.items():
            # Four months later another year has begun, and the offices have attested nothing in it either.
            codes = set(outcomes(decision)) - {"issuer_not_begun"}
            fine = decision["outcome"] == "incomplete" and codes == {reason.partition(",")[0]}
            if not fine or decision["rules"] or decision["limit"]:
                wrong.append(f"{reason}: {decision['outcome']} for {sorted(codes)}")
        yield check(
            f"{product}, evidence incomplete",
            f"{len(cases)} ways: {'; '.join(wrong) or ', '.join(cases)}; no rule asked",
            not wrong,
        )


# --- the document ---------------------------------------------------------------------------------


def _document(made: MadeUp, by_id: Mapping[str, Became]) -> str:
    lines = [
        "| product | rule | threshold | good enterprise | verdict | refused: who | its value | verdict |",
        "|---|---|---|---:|---|---|---:|---|",
    ]
    for product in PRODUCTS:
        refused = _refusals(made, by_id, product)
        for rule in by_id[f"{product}-approved"]["decision"]["rules"]:
            case, decision = refused.get(rule["id"], ("–", {"rules": []}))
            other = next((each for each in decision["rules"] if each["id"] == rule["id"]), None)
            cells = [
                product,
                rule["id"],
                threshold(rule["operator"], rule["unit"], rule["thresholds"]),
                quantity(rule["unit"], rule["value"]),
                rule["verdict"],
                made.titles.get(case, "40 % is pledged at another bank"),
                "–" if other is None else quantity(other["unit"], other["value"]),
                "–" if other is None else other["verdict"],
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| product | limit for the good enterprise | rate | paid out | evidence incomplete |",
        "|---|---:|---:|---:|---|",
    ]
    for product in PRODUCTS:
        decision = by_id[f"{product}-approved"]["decision"]
        limit, rate = f"{decision['limit'] / 100:,.2f}", quantity("ppm", decision["rate_ppm"])
        paid = f"{by_id[f'{product}-approved']['paid']['amount'] / 100:,.2f}"
        lines.append(f"| {product} | {limit} | {rate} | {paid} | {'; '.join(_wanting(by_id, product))} |")
    return "\n".join(lines)


LINE = Line(
    name="products",
    title="nine products on attested data: approved, refused on each rule, incomplete",
    run=run,
)
