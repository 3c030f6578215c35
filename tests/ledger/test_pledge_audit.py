"""An auditor sees what is wrong with pledges even where every validator, and its own replay, runs wrong rules."""

from __future__ import annotations

import io

import pytest
from chainkit import ISSUER, TestChain, signer
from pledgekit import (
    BANK,
    BANK2,
    DAY,
    NOW,
    OK,
    amend,
    amended,
    id_of,
    permit,
    place,
    pledge_chain,
    release,
    revoked,
    transfer,
)
from test_pledge_model import play

from taxledger.ledger import effects, pledgeeffects, rules
from taxledger.ledger.audit import audit_archive
from taxledger.ledger.auditreport import AuditReport
from taxledger.ledger.rules import decode_result
from taxledger.ledger.store import MemoryStore


def audit(chain: TestChain) -> AuditReport:
    return audit_archive(io.BytesIO(chain.archive()), MemoryStore(), policy=chain.policy())


@pytest.mark.parametrize("seed", range(3))
def test_what_honest_validators_wrote_holds(seed: int) -> None:
    run = play(seed, 15)
    report = audit(run.chain)
    assert report.ok, [each.failure for each in report.verdicts if each.failure]
    assert report.verdict("pledges").checked > 30


def test_what_each_step_writes_holds() -> None:
    chain = pledge_chain()
    steps = [
        (place(chain, "a", until=NOW + DAY), BANK),
        (transfer(id_of("a"), permit(chain, lender=BANK2)), BANK),
        (place(chain, "b", lender=BANK, ppm=10_000), BANK),
        (amended(amend(2)), ISSUER),
        (revoked(2, version=2), ISSUER),
        (release(id_of("a")), BANK2),
        (release(id_of("b")), BANK),
    ]
    for payload, member in steps:
        assert chain.result(payload, member) == OK
    report = audit(chain)
    assert report.ok, [each.failure for each in report.verdicts if each.failure]
    assert report.verdict("pledges").checked == 3 + 7


def without(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Nobody asks this rule any more."""
    monkeypatch.setattr(rules, "RULES", tuple(rule for rule in rules.RULES if rule.code != code))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (40, "signed by its issuer"),
        (41, "after"),
        (42, "8"),
        (43, "permit for record"),
        (49, "permit for record"),
        (50, "an entry"),
        (51, "at most 1000000 ppm"),
    ],
)
def test_a_rule_that_nobody_asks(monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    chain = pledge_chain()
    assert chain.result(place(chain, "a", ppm=600_000), BANK) == OK
    if code == 50:
        for n in range(15):
            assert chain.result(place(chain, n, ppm=10_000), BANK) == OK
    assert audit(chain).ok
    wrong = {
        40: lambda: place(chain, "b", ppm=10_000, by=signer(BANK)),
        41: lambda: place(chain, "b", ppm=10_000, end=NOW),
        42: lambda: place(chain, "b", ppm=10_000, lender=BANK2),
        43: lambda: transfer(id_of("a"), permit(chain, tag=2, lender=BANK2)),
        49: lambda: place(chain, "b", ppm=10_000, tag=2),
        50: lambda: place(chain, "b", ppm=10_000),
        51: lambda: place(chain, "b", ppm=400_001),
    }[code]()
    signed = chain.sign(wrong, BANK)
    assert [decode_result(each).code for each in chain.execute(signed).results] == [code]
    without(monkeypatch, code)
    assert chain.results(signed) == [OK]
    report = audit(chain)
    assert [each.name for each in report.verdicts if each.status != "ok"] == ["pledges"]
    verdict = report.verdict("pledges")
    assert verdict.failure is not None
    assert said in (verdict.failure.expected or "") + (verdict.failure.got or ""), verdict.failure


def test_a_mark_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = pledge_chain()
    assert chain.result(place(chain, "a"), BANK) == OK
    assert chain.result(place(chain, "b", ppm=10_000), BANK) == OK
    assert chain.result(revoked(2)) == OK
    assert audit(chain).ok
    monkeypatch.setattr(
        pledgeeffects, "_settled", lambda call, entry, record: pledgeeffects.encode_pledge_entry(entry)
    )
    chain = pledge_chain()
    assert chain.result(place(chain, "a"), BANK) == OK
    assert chain.result(place(chain, "b", ppm=10_000), BANK) == OK
    assert chain.result(revoked(2)) == OK
    verdict = audit(chain).verdict("pledges")
    assert verdict.failure is not None
    assert verdict.failure.expected == "impaired"


def test_a_pledge_from_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that gives the pledge to its neighbour."""
    chain = pledge_chain()
    assert chain.result(place(chain, "a"), BANK) == OK
    taken = lambda call: pledgeeffects._changed(  # noqa: E731
        call,
        call.operation.pledge,
        lambda pledge: type(pledge)(id=pledge.id, member=BANK2, ppm=pledge.ppm, not_after=None),
    )
    monkeypatch.setitem(effects._EFFECTS, pledgeeffects.PledgeRelease, taken)
    assert chain.result(release(id_of("a")), BANK) == OK
    verdict = audit(chain).verdict("pledges")
    assert verdict.failure is not None
    assert verdict.failure.got == "none"
