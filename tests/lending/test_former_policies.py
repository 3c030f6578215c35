"""A loan outlives the validators that certified what it was decided on: stored evidence under the former policy that
the lender held, whatever is fresh under the present one alone.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from archivekit import LENDER_KEY, LOAN, NEWER, PRODUCT, Story, disclosed, policy_file
from disclosurekit import QUERY
from world import NOW_MS, NOW_S

from taxledger.ledger import canonical
from taxledger.ledger.errors import FormatError, UnavailableError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.policies import Policies, decode_policies, former_policies
from taxledger.ledger.policydate import policy_digest, with_verified
from taxledger.lending.archive import ArchiveReport, decode_archive, verify_archive, write_archive
from taxledger.lending.assessing import Case, assess
from taxledger.lending.evidence import (
    EvidenceFile,
    check_policy_current,
    policy_of_evidence,
    verify_evidence_set,
)
from taxledger.lending.products.product import decode_product
from taxledger.lending.watch import watched_loan
from taxledger.nodes.cli.main import main
from taxledger.nodes.formerpolicies import read_former_policies

OLD = policy_file()
NEW = policy_file(NEWER, NOW_S + 86_400, size=20)
BOTH = decode_policies(NEW, [OLD])


def paid_out(**arguments: Any) -> Story:
    story = Story(**arguments)
    story.decide()
    story.agree()
    story.draw(1, 500_000, "2025-06-16")
    return story


@pytest.fixture(scope="module")
def archive() -> bytes:
    """Of a loan decided before the validators changed, sealed afterwards."""
    return write_archive(LENDER_KEY, **paid_out().arguments(policies=BOTH))


def check(data: bytes, policies: Policies) -> ArchiveReport:
    return verify_archive(data, policies, LENDER_KEY.public_key)


# --- archives -------------------------------------------------------------------------------------


def test_a_loan_decided_before_the_validators_changed(archive: bytes) -> None:
    report = check(archive, BOTH)
    assert (report.state, report.decisions) == ("paid_out", (("approve", "2024-12-31"),))
    assert report.validators == (("tax", "bank1", "bank2", "bank3"),)
    assert check(archive, decode_policies(OLD)) == report
    (named,) = decode_archive(archive).policies
    assert named.validators_hash == decode_policies(OLD).present.validators_hash


def test_a_former_policy_that_is_not_given(archive: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        check(archive, decode_policies(NEW))
    assert caught.value.code == "archive_policy_mismatch"
    origin = disclosed()[0].origin
    assert (
        f"decision 1 needs the policy of {origin}, 3 of bank1, bank2, bank3, tax, verified 2025-06-15T15:06:40Z"
        in str(caught.value)
    )


def test_evidence_of_before_decided_after() -> None:
    """Evidence that came before the change was decided on after it: incomplete. Asked again, it was approved."""
    story = Story()
    story.decide(under=NEWER)
    assert (story.decision.outcome, story.decision.reasons[0].code) == ("incomplete", "policy_outdated")
    story.note("incomplete", [1, []])
    story.decide_again(NEWER)
    story.agree()
    data = write_archive(LENDER_KEY, **story.arguments(policies=BOTH))
    report = check(data, BOTH)
    assert [outcome for outcome, _as_of in report.decisions] == ["incomplete", "approve"]
    assert report.validators == (NEWER, NEWER)


def test_decisions_under_two_policies() -> None:
    """The first under the former validators (something was wrong with it then), the second under the present ones."""
    story = Story()
    story.decide(tampered=True)
    assert story.decision.outcome == "incomplete"
    story.note("incomplete", [1, []])
    story.decide_again(NEWER)
    story.agree()
    data = write_archive(LENDER_KEY, **story.arguments(policies=BOTH))
    assert check(data, BOTH).validators == (disclosed()[0].validators, NEWER)
    for alone, number in ((NEW, 1), (OLD, 2)):
        with pytest.raises(VerificationError, match=f"decision {number} needs the policy of"):
            check(data, decode_policies(alone))


def test_a_forged_former_policy(archive: bytes) -> None:
    """Keys of one's own under the validators' names are another set: it is not what the archive needs."""
    forged = policy_file(("tax", "bank1", "bank2", "bank5"))
    with pytest.raises(VerificationError, match="archive_policy_mismatch"):
        check(archive, decode_policies(NEW, [forged]))
    # The same validators, and a log key that was never theirs.
    lines = OLD.split(b"\n")
    logs = [line for line in lines if line.startswith(b"log ")]
    others = [line for line in forged.split(b"\n") if line.startswith(b"log ") and line not in logs]
    swapped = b"\n".join(line for line in [others[0], *(each for each in lines if each not in logs)])
    swapped = with_verified(swapped, BOTH.held[1].verified)  # type: ignore[arg-type]
    with pytest.raises(VerificationError, match=r"archive_decision_mismatch.*policy_mismatch"):
        check(archive, decode_policies(NEW, [swapped]))
    assert check(archive, decode_policies(NEW, [swapped, OLD])).state == "paid_out"  # whichever verifies


def test_nothing_is_sealed_under_a_policy_that_is_not_held() -> None:
    with pytest.raises(VerificationError, match="policy_outdated: stored evidence needs the policy of"):
        write_archive(LENDER_KEY, **paid_out().arguments(policies=decode_policies(NEW)))


def test_an_archive_of_the_first_version(archive: bytes) -> None:
    value = canonical.decode(canonical.decode(archive)[2])
    body = canonical.encode([1, value[1], policy_digest(OLD), *value[3:]])
    signature = LENDER_KEY.sign(b"taxledger/loan_archive/1" + body)
    first = canonical.encode([1, "loan_archive", body, LENDER_KEY.public_key, signature])
    assert check(first, BOTH).state == check(first, decode_policies(OLD)).state == "paid_out"
    with pytest.raises(VerificationError, match="archive_policy_mismatch: made under another policy file"):
        check(first, decode_policies(NEW))


# --- what is stored, and what is fresh --------------------------------------------------------------


def stored(data: bytes) -> EvidenceFile:
    return EvidenceFile(query=QUERY, data=data)


def test_the_policy_of_stored_evidence() -> None:
    old, new = (stored(disclosed(each)[1]) for each in (disclosed()[0].validators, NEWER))
    assert policy_of_evidence([old], BOTH) == BOTH.held[1].policy
    assert policy_of_evidence([new], BOTH) == BOTH.present
    assert policy_of_evidence([stored(b"junk")], BOTH) == policy_of_evidence([], BOTH) == BOTH.present
    with pytest.raises(VerificationError, match="policy_outdated"):
        policy_of_evidence([old], decode_policies(NEW))
    # One policy for all of a decision: a file of other validators is refused beside the first.
    mixed = [old, replace(new, query=replace(QUERY, kinds=(6,)))]
    with pytest.raises(VerificationError):
        verify_evidence_set(
            mixed, policy_of_evidence(mixed, BOTH), recipient=2, now_ms=NOW_MS, age_ms_max=600_000
        )


def test_nothing_fresh_is_decided_under_a_former_policy() -> None:
    old = stored(disclosed()[1])
    with pytest.raises(UnavailableError, match="taxledger policy update"):
        check_policy_current([old], decode_policies(NEW))
    # A set that left may come back. What it certified behind the present policy's log is newer than that.
    back = decode_policies(policy_file(NEWER, NOW_S, size=8), [OLD])
    with pytest.raises(UnavailableError, match="taxledger policy update"):
        check_policy_current([old], back)
    # Of before the change, it will never be current: no update is waited for, and it is asked for anew.
    check_policy_current([old], BOTH)
    case = Case(
        application=LOAN,
        product=decode_product(PRODUCT, {}),
        subject=QUERY.subject,
        as_of=date(2024, 12, 31),
        security=(),
        recipient=2,
        age_ms_max=600_000,
    )
    decision = assess(case, [old], None, BOTH.present, decided_ms=NOW_MS)
    assert (decision.outcome, decision.reasons[0].code) == ("incomplete", "policy_outdated")


class _Records:
    """``LoanRecords`` of a story."""

    def __init__(self, story: Story) -> None:
        self._story = story

    def events(self, loan: str) -> tuple[Any, ...]:
        return tuple(self._story.events)

    def file(self, loan: str, digest: bytes) -> bytes:
        return {sha256(each): each for each in self._story.files}[digest]


def test_a_loan_decided_before_the_change_is_watched() -> None:
    records: Any = _Records(paid_out())
    before = watched_loan(records, LOAN, decode_policies(OLD))
    assert watched_loan(records, LOAN, BOTH) == before
    with pytest.raises(VerificationError, match="policy_outdated: stored evidence needs"):
        watched_loan(records, LOAN, decode_policies(NEW))


# --- files ------------------------------------------------------------------------------------------


def test_what_policies_may_be_held_together() -> None:
    with pytest.raises(FormatError, match="the present policy first"):
        decode_policies(OLD, [NEW])
    undated = disclosed()[0].policy_bytes
    with pytest.raises(FormatError, match="says when it was verified"):
        decode_policies(NEW, [undated])
    chain = disclosed()[0].chain_id.hex()
    other = OLD.replace(chain.encode(), (b"0" * 32))
    with pytest.raises(FormatError):
        decode_policies(NEW, [other])
    assert former_policies(NEW, [undated, b"junk", other, NEW, OLD]) == (OLD,)
    assert decode_policies(undated).present == decode_policies(OLD).present


def test_the_former_policies_beside_the_present_one(tmp_path: Path) -> None:
    path = tmp_path / "policy.txt"
    path.write_bytes(NEW)
    assert read_former_policies(path) == ()
    for name, data in {
        "policy.0a1b2c3d.txt": OLD,
        "policy.0a1b2c3d0a1b2c3d.txt": b"junk",
        "policy-embedded.txt": policy_file(("tax", "bank1", "bank2", "bank6")),
        "policy.draft.txt": OLD,
        "policy.0a1b2c3d.txt.part": OLD,
        "policy-large.txt": b"#" * 100_000,
    }.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "policy-folder.txt").mkdir()
    assert read_former_policies(path) == (policy_file(("tax", "bank1", "bank2", "bank6")), OLD)


def test_the_command(archive: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: tmp_path / name for name in ("a.loan", "new.txt", "old.txt")}
    for path, data in zip(files.values(), (archive, NEW, OLD), strict=True):
        path.write_bytes(data)
    verify = ["lend", "verify-archive", str(files["a.loan"]), "--policy", str(files["new.txt"])]
    assert main(verify) == 1
    said = capsys.readouterr().err
    assert "needs the policy of" in said
    assert "3 of bank1, bank2, bank3, tax, verified 2025-06-15T15:06:40Z" in said
    assert main([*verify, "--policy", str(files["old.txt"])]) == 0
    assert "validators of that time: tax, bank1, bank2, bank3" in capsys.readouterr().out
    assert main([*verify, "--policy", str(files["old.txt"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["validators"] == [["tax", "bank1", "bank2", "bank3"]]
    assert main([*verify[:4], str(files["old.txt"]), "--policy", str(files["new.txt"])]) == 2
    assert "the present policy first" in capsys.readouterr().err
