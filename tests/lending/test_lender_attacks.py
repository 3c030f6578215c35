"""What a lender must not take for its own: evidence under another consent, another lender's loans, smaller pledges."""

from __future__ import annotations

import traceback
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
from archivekit import PRODUCT, disclosed
from consentkit import SUBJECT_KEY
from decisionkit import GOOD, PRODUCTS, decided, security_of
from disclosurekit import QUERY
from loankit import BANK_KEY, LENDER, Bench
from world import NOW_MS

from taxledger.ledger.consent import decode_artefact, sign_artefact
from taxledger.ledger.errors import FormatError, RefusedError
from taxledger.ledger.kinds import KINDS, kind_name
from taxledger.ledger.pledgeproof import PledgeState
from taxledger.ledger.pledgestate import Pledge, PledgeMarks
from taxledger.ledger.records import Status
from taxledger.lending import evidence
from taxledger.lending.assessing import Case, assess
from taxledger.lending.decision import Decision
from taxledger.lending.evidence import EvidenceFile, VerifiedEvidence
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.loans.life import LoanEngine
from taxledger.lending.loans.store import LoanStore
from taxledger.lending.offered import find_offered
from taxledger.lending.products.catalogue import shipped_files
from taxledger.lending.products.product import decode_product
from taxledger.lending.settings import decode_settings
from taxledger.nodes.cli.lend.consenting import product_wish


def decided_under(artefact: bytes | None) -> Decision:
    world, data, _artefact = disclosed()
    case = Case(
        application="L1",
        product=decode_product(PRODUCT, {}),
        subject=QUERY.subject,
        as_of=date(2024, 12, 31),
        security=(),
        recipient=2,
        age_ms_max=600_000,
        artefact=artefact,
    )
    files = [EvidenceFile(query=QUERY, data=data)]
    return assess(case, files, None, world.policy, decided_ms=NOW_MS)


def test_evidence_under_another_consent_decides_nothing() -> None:
    right = disclosed()[2]
    assert decided_under(right) == decided_under(None)
    assert decided_under(right).outcome == "approve"
    terms = decode_artefact(right).terms
    other = sign_artefact(replace(terms, max_uses=terms.max_uses + 1), SUBJECT_KEY).raw
    wrong = decided_under(other)
    assert (wrong.outcome, [each.code for each in wrong.reasons]) == (
        "incomplete",
        ["evidence_consent_mismatch"],
    )


def test_a_database_that_was_moved_to_another_lender_is_not_gone_on_with(
    store: LoanStore, tmp_path: Path
) -> None:
    bench = Bench(store, tmp_path)
    loan = bench.offered()
    other = LoanEngine(store, bench.ports, lender=LENDER + 1, contract_key=BANK_KEY)
    for work in (lambda: other.accept("L1", bench.acceptance(loan)), lambda: other.advance("L1")):
        with pytest.raises(RefusedError) as refused:
            work()
        assert refused.value.code == "loan_of_another_lender"
    assert bench.engine.load("L1") == loan


def test_of_one_fingerprint_at_two_issuers_the_greater_pledge_counts() -> None:
    mark = bytes(16)
    for order in ((1, 2), (2, 1)):
        pledged = {(issuer, mark): 700_000 if issuer == 1 else 0 for issuer in order}
        assert Facts(subject="s", pledged_ppm=pledged).taken_ppm == {mark: 700_000}


def test_a_number_that_was_attested_anew_means_the_record_that_counts() -> None:
    award = GOOD.of(KINDS["procurement_award"])[0]
    taken_back = replace(award, key=award.key[:-1] + bytes([award.key[-1] ^ 1]), status=Status.REVOKED)
    voided = replace(taken_back, status=Status.VOIDED)
    number = str(award.fields["number"])

    def found(*records: Fact) -> tuple[tuple[bytes, ...], list[str]]:
        keys, reasons = find_offered(Facts(subject="s", records={award.kind: records}), award.kind, [number])
        return keys, [each.code for each in reasons]

    assert found(award, taken_back) == ((award.key,), [])
    assert found(voided) == ((voided.key,), []), "that it does not count is for the product's rules to say"
    twice = replace(award, key=taken_back.key)
    assert found(award, twice) == ((), ["security_ambiguous"])


@pytest.mark.parametrize(
    ("marks", "is_open", "expected"),
    [
        (PledgeMarks.CONTESTED, True, "refer"),
        (PledgeMarks.CONTESTED | PledgeMarks.IMPAIRED, True, "refer"),
        (PledgeMarks.IMPAIRED, True, "approve"),  # the share of an earlier version is taken, no more
        (PledgeMarks.CONTESTED, False, "approve"),  # where nothing is open, marks mean nothing
    ],
)
def test_contested_security_is_a_persons_to_judge(
    marks: PledgeMarks, is_open: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = PRODUCTS["procurement"]
    security = security_of(product, GOOD)
    offered = next(each for each in GOOD.of(product.security.kind) if each.key == security[0])  # type: ignore[union-attr]
    assert offered.fingerprint is not None
    pledge = Pledge(id=bytes(16), member=3, ppm=300_000, not_after=None)
    state = PledgeState(
        record_key=offered.key,
        marks=marks,
        pledges=(pledge,) if is_open else (),
        pledged_ppm=300_000 if is_open else 0,
    )
    proved = SimpleNamespace(states={(offered.issuer, offered.fingerprint): state}, age_ms=0)
    monkeypatch.setattr(evidence, "verify_pledges", lambda *arguments, **more: proved)
    verified = VerifiedEvidence(facts=GOOD, disclosed=(), digests=(), age_ms=0)
    known = evidence.add_pledges(verified, b"", None, security, now_ms=0, age_ms_max=0)  # type: ignore[arg-type]
    made = decided("procurement", known.facts)
    assert made.outcome == expected
    assert ("security_contested" in [each.code for each in made.reasons]) == (expected == "refer")


# --- what people write ---------------------------------------------------------------------------


SHIPPED = shipped_files()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        # "1,000,000.00" of a currency without decimal places would be a hundred times as much.
        ('currency = "CNY"', 'currency = "JPY"', "two decimal places, got 'JPY'"),
        ('currency = "CNY"', 'currency = "XYZ"', "two decimal places, got 'XYZ'"),
        # No offer could say it: the loan would stay decided for ever.
        (
            'max = "1,000,000.00"',
            'max = "99,999,999,999,999.00"',
            "limit.max: expected at most 9,999,999,999",
        ),
        ("version = 1", f"version = {'9' * 5_000}", "not TOML"),
    ],
)
def test_a_product_that_could_not_be_lent_is_refused(old: str, new: str, error: str) -> None:
    data = SHIPPED.products["contest"].decode()
    assert old in data
    with pytest.raises(FormatError, match=error):
        decode_product(data.replace(old, new, 1).encode(), {})


def test_a_scorecard_is_of_the_products_currency() -> None:
    cards = {name: data + b"" for name, data in SHIPPED.scorecards.items()}
    product = SHIPPED.products["tax"].decode().replace('currency = "CNY"', 'currency = "EUR"', 1)
    with pytest.raises(FormatError, match="expected one in EUR"):
        decode_product(product.encode(), cards)


@pytest.mark.parametrize("place", ["secret", "url"])
def test_no_message_shows_a_secret(place: str, tmp_path: Path) -> None:
    hook = {"secret": "whsec_x", "url": "https://example.com/"} | {place: "hunter2"}
    text = f"""
        [bank]
        name = "B"
        bic = "DEMOCNBJXXX"
        account = "1"
        [issuers]
        vat_invoice = 1
        [[webhooks]]
        secret = "{hook["secret"]}"
        url = "{hook["url"]}"
    """
    with pytest.raises(FormatError) as wrong:
        decode_settings(text.encode(), tmp_path)
    assert f"webhooks.1.{place}" in str(wrong.value)
    assert "hunter2" not in "".join(traceback.format_exception(wrong.value))


def test_a_consent_lets_pledge_only_what_is_offered(tmp_path: Path) -> None:
    issuers = "\n".join(f"{kind_name(kind)} = 1" for kind in sorted(KINDS.values()))
    text = f"""
        [bank]
        name = "B"
        bic = "DEMOCNBJXXX"
        account = "1"
        [issuers]
        {issuers}
    """
    settings = decode_settings(text.encode(), tmp_path)
    for product, offers, expected in [
        ("invoice", False, False),
        ("invoice", True, True),
        ("procurement", False, True),
        ("contest", True, False),
    ]:
        wish = product_wish(
            SHIPPED.product(product),
            settings,
            subject=QUERY.subject,
            recipient=2,
            as_of=date(2024, 12, 31),
            offers=offers,
        )
        assert wish.may_pledge is expected, (product, offers)
