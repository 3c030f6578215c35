"""The watcher: what raises an alert, what does not, and that nothing is lost or told twice."""

from __future__ import annotations

import random
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from facts_maker import fact
from watchkit import (
    CONSENT,
    FINGERPRINT,
    HEIGHT,
    INVOICES,
    PLEDGE,
    URL,
    FakeEvents,
    Kit,
    amended,
    attested,
    block,
    consent_value,
    healthy_facts,
    key_of,
    pledge_value,
    red_letter,
    tag_of,
    value_of,
)

from taxledger.api.events import Event, EventId
from taxledger.ledger import canonical
from taxledger.ledger.consentstate import ConsentStatus
from taxledger.ledger.errors import FormatError, UnavailableError, VerificationError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.pledgestate import PledgeMarks
from taxledger.ledger.records import Status
from taxledger.ledger.statekeys import attested_through_key, consent_key, pledges_key
from taxledger.lending.decision import Reason
from taxledger.lending.watch import WatchStore
from taxledger.lending.watch.alerts import alert_id
from taxledger.lending.watch.watched import Covered, digest_of_entries


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = Kit(tmp_path)
    yield made
    made.store.close()


# --- records --------------------------------------------------------------------------------


def test_a_red_letter_after_pay_out_raises_the_product_s_rule(kit: Kit) -> None:
    kit.enrol()
    assert kit.recheck.requests == []
    kit.state.entries[kit.keys[1]] = value_of(2, Status.REVERSED)
    kit.state.entries[key_of(kit.tag, 4)] = value_of()
    kit.recheck.facts = healthy_facts(red_letter())
    new = kit.watcher.take(block(101, attested(), amended(kit.keys[1])))
    assert [(each.rule, each.severity, each.event) for each in new] == [
        ("record_changed", "warning", "101-0"),
        ("watch_red_letters", "warning", "101-0"),
    ]
    assert new[0].data == {"reversed": 1}
    assert new[1].data["feature"] == "red_letter_ratio_amount_12m"
    assert "红字金额占比超过5%" in new[1].text_zh
    assert len(kit.recheck.requests) == 1
    assert [(each.alert, each.url, each.state) for each in kit.store.deliveries()] == sorted(
        (each.id, URL, "pending") for each in new
    )


def test_new_records_below_the_tag_are_recognised(kit: Kit) -> None:
    kit.enrol()
    kit.state.entries[key_of(kit.tag, 4, month=6)] = value_of()
    assert kit.watcher.take(block(101, attested())) == []
    assert len(kit.recheck.requests) == 1
    kit.watcher.take(block(102, attested()))
    assert len(kit.recheck.requests) == 1


def test_records_of_others_use_no_consent(kit: Kit) -> None:
    kit.enrol()
    kit.state.entries[key_of(tag_of("someone else"), 2)] = value_of()
    assert kit.watcher.take(block(101, attested(), amended(key_of(tag_of("someone else"), 1)))) == []
    assert kit.watcher.take(block(102, attested(kind=KINDS["tax_arrears"]))) == []
    assert kit.recheck.requests == []


def test_an_event_that_is_not_so_leads_to_nothing(kit: Kit) -> None:
    kit.enrol()
    said = ("record.revoked", kit.keys[0].hex(), {"kind": INVOICES, "version": 1, "status": 4})
    pledge = ("pledge.impaired", kit.keys[0].hex(), {"kind": INVOICES})
    consent = ("consent.revoked", CONSENT.hex(), {"by_preimage": False})
    released = ("pledge.released", PLEDGE.hex(), {})
    assert kit.watcher.take(block(101, said, pledge, consent, released, amended(kit.keys[1]))) == []
    assert kit.recheck.requests == []


def test_what_the_evidence_knew_is_not_told_again(kit: Kit) -> None:
    kit.state.entries[kit.keys[1]] = value_of(2, Status.REVERSED)
    kit.store.enrol(kit.loan(known=digest_of_entries(kit.state.read([kit.tag.prefix])[kit.tag.prefix])))
    kit.watcher.check_enrolled()
    assert kit.watcher.take(block(HEIGHT, amended(kit.keys[1]))) == []
    assert [each.rule for each in kit.watcher.take(block(HEIGHT + 1, amended(kit.keys[1])))] == [
        "record_changed"
    ]
    assert kit.recheck.requests == []


def test_several_blocks_and_keys_are_one_alert_each(kit: Kit) -> None:
    kit.enrol()
    for key, status in zip(kit.keys, (Status.REVOKED, Status.VOIDED, Status.ERASED), strict=True):
        kit.state.entries[key] = value_of(2, status)
    (alert,) = kit.watcher.take(block(101, *(amended(key) for key in kit.keys)))
    assert (alert.severity, dict(alert.data)) == ("critical", {"revoked": 1, "voided": 1, "erased": 1})
    assert alert.id == alert_id("L1", "101-0", "record_changed")


# --- after enrolling ------------------------------------------------------------------------


def test_enrolling_looks_at_what_happened_since_the_evidence(kit: Kit) -> None:
    kit.state.entries[kit.keys[2]] = value_of(2, Status.VOIDED)
    kit.recheck.facts = healthy_facts(red_letter())
    kit.enrol()
    assert kit.rules() == ["watch_red_letters"]
    assert kit.watcher.check_enrolled() == []
    assert len(kit.recheck.requests) == 1


def test_records_outside_of_the_evidence_are_no_change_at_first(kit: Kit) -> None:
    kit.state.entries[key_of(kit.tag, 9, month=12)] = value_of()
    kit.enrol(ranges=(kit.tag.prefix + b"\x03",))
    assert kit.recheck.requests == []
    kit.state.entries[key_of(kit.tag, 10, month=12)] = value_of()
    kit.watcher.take(block(101, attested()))
    assert len(kit.recheck.requests) == 1


def test_a_year_without_a_tag_is_read_once(kit: Kit) -> None:
    kit.enrol()
    kit.watcher.take(block(101, attested(year=2024)))  # before what was asked
    assert kit.recheck.requests == []
    later = tag_of("A", year=2026)
    kit.state.entries[key_of(later, 1)] = value_of()
    kit.recheck.covered = Covered(
        prefixes=(kit.tag, later),
        ranges=(kit.tag.prefix, later.prefix),
        known=digest_of_entries([(key, value_of()) for key in (*kit.keys, key_of(later, 1))]),
    )
    kit.watcher.take(block(102, attested(year=2026)))
    kit.watcher.take(block(103, attested(year=2026)))
    kit.reopen().take(block(104, attested(year=2026)))
    assert len(kit.recheck.requests) == 1
    kit.state.entries[key_of(later, 2)] = value_of()
    kit.watcher.take(block(105, attested(year=2026)))
    assert len(kit.recheck.requests) == 2


def test_a_year_that_the_consent_does_not_cover_is_asked_once(kit: Kit) -> None:
    kit.enrol()
    kit.recheck.reasons = (Reason(code="consent_period_exceeded", text="", text_zh=""),)
    for height in (101, 102, 103):
        kit.watcher.take(block(height, attested(year=2026)))
    assert len(kit.recheck.requests) == 1
    assert kit.rules() == ["cannot_recheck"]


def test_a_change_while_it_was_read_again_is_not_lost(kit: Kit) -> None:
    kit.enrol()
    later = tag_of("A", year=2026)
    kit.state.entries[key_of(later, 1)] = value_of()  # came after the evidence, which says there is none
    kit.recheck.covered = Covered(
        prefixes=(kit.tag, later),
        ranges=(kit.tag.prefix, later.prefix),
        known=digest_of_entries([(key, value_of()) for key in kit.keys]),
    )
    kit.watcher.take(block(101, attested(year=2026)))
    kit.watcher.take(block(102, attested(year=2026)))
    assert len(kit.recheck.requests) == 2


# --- consents and pledges -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (consent_value(ConsentStatus.REVOKED), "consent_revoked"),
        (consent_value(ConsentStatus.PAUSED), "consent_paused"),
        (consent_value(ConsentStatus.SUPERSEDED), "consent_superseded"),
        (consent_value(uses=3), "consent_used_up"),
        (None, "consent_unknown"),
    ],
)
def test_nothing_is_read_without_a_consent_that_allows_it(kit: Kit, value: bytes | None, code: str) -> None:
    kit.enrol()
    kit.state.entries.pop(consent_key(CONSENT))
    if value is not None:
        kit.state.entries[consent_key(CONSENT)] = value
    kit.state.entries[key_of(kit.tag, 4)] = value_of()
    (alert,) = kit.watcher.take(block(101, attested()))
    assert (alert.rule, alert.data["codes"]) == ("cannot_recheck", code)
    assert kit.recheck.requests == []


def test_a_revoked_consent_is_told(kit: Kit) -> None:
    kit.enrol()
    kit.state.entries[consent_key(CONSENT)] = consent_value(ConsentStatus.REVOKED)
    (alert,) = kit.watcher.take(block(101, ("consent.revoked", CONSENT.hex(), {"by_preimage": True})))
    assert (alert.rule, alert.data["code"]) == ("consent_ended", "consent_revoked")


def test_a_silent_custodian_is_told_with_its_reason(kit: Kit) -> None:
    kit.enrol()
    kit.recheck.reasons = (Reason(code="custodian_silent", text="", text_zh=""),)
    kit.state.entries[key_of(kit.tag, 4)] = value_of()
    (alert,) = kit.watcher.take(block(101, attested()))
    assert (alert.rule, alert.data["codes"]) == ("cannot_recheck", "custodian_silent")


@pytest.mark.parametrize(
    ("type_", "subject", "value", "rule"),
    [
        ("pledge.impaired", key_of(tag_of("A"), 1), pledge_value(PledgeMarks.IMPAIRED), "pledge_impaired"),
        (
            "pledge.contested",
            pledges_key(1, FINGERPRINT),
            pledge_value(PledgeMarks.CONTESTED),
            "pledge_contested",
        ),
        ("pledge.released", PLEDGE, pledge_value(id=b"\x08" * 16), "pledge_missing"),
        ("pledge.transferred", PLEDGE, None, "pledge_missing"),
    ],
)
def test_pledges(kit: Kit, type_: str, subject: bytes, value: bytes | None, rule: str) -> None:
    kit.enrol()
    if value is None:
        del kit.state.entries[pledges_key(1, FINGERPRINT)]
    else:
        kit.state.entries[pledges_key(1, FINGERPRINT)] = value
    (alert,) = kit.watcher.take(block(101, (type_, subject.hex(), {})))
    assert (alert.rule, alert.severity) == (rule, "critical")


# --- rules ----------------------------------------------------------------------------------


def _force_recheck(kit: Kit) -> list[str]:
    kit.state.entries[key_of(kit.tag, 77)] = value_of()
    return [each.rule for each in kit.watcher.take(block(101, attested()))]


def test_arrears_are_critical(kit: Kit) -> None:
    kit.enrol()
    opened = fact(
        "tax_arrears",
        {"category": "arrears", "number": "1", "opened": "2025-06-10", "currency": "CNY", "amount": 5},
        number=5_000,
    )
    kit.recheck.facts = healthy_facts(opened)
    assert _force_recheck(kit) == ["watch_arrears"]
    assert kit.store.alerts()[0].severity == "critical"


def test_silence_of_the_issuer_is_no_silence_of_the_borrower(kit: Kit) -> None:
    """No sale for 90 days: alarming where the issuer has attested them, nothing where it has not."""
    old = healthy_facts()
    sales = tuple(each for each in old.of(INVOICES) if str(each.fields["date"]) < "2025-03-20")
    kit.enrol()
    for through, expected in (("2025-03-22", []), ("2025-06-20", ["watch_gap"])):
        coverage = {kind: replace(each, through=through) for kind, each in old.coverage.items()}
        kit.recheck.facts = replace(old, records={**old.records, INVOICES: sales}, coverage=coverage)
        kit.state.entries[key_of(kit.tag, 100 + len(kit.recheck.requests))] = value_of()
        new = kit.watcher.take(block(101 + len(kit.recheck.requests), attested()))
        assert [each.rule for each in new] == expected


def test_a_rule_that_cannot_be_computed_is_told(kit: Kit) -> None:
    kit.enrol()
    whole = healthy_facts()
    kit.recheck.facts = replace(whole, coverage={INVOICES: whole.coverage[INVOICES]})
    assert _force_recheck(kit) == ["watch_arrears"]
    assert "can't be computed" in kit.store.alerts()[0].text


def test_a_product_that_is_gone(kit: Kit) -> None:
    kit.enrol(product="withdrawn")
    assert _force_recheck(kit) == ["cannot_recheck"]


def test_late_attestations(kit: Kit) -> None:
    kit.enrol()
    assert kit.watcher.check_lateness() == []
    kit.state.entries[attested_through_key(1, INVOICES)] = canonical.encode(["2025-05-01", 80])
    (alert,) = kit.watcher.check_lateness()
    assert (alert.rule, alert.data["through"]) == ("attestation_late", "2025-05-01")
    assert kit.watcher.check_lateness() == []
    kit.state.entries[attested_through_key(1, INVOICES)] = canonical.encode(["2025-05-02", 81])
    assert len(kit.watcher.check_lateness()) == 1


def test_a_node_that_withholds_events_is_found_out(kit: Kit) -> None:
    kit.enrol()
    assert kit.watcher.check_all() == []
    assert kit.recheck.requests == []
    kit.state.entries[kit.keys[0]] = value_of(2, Status.REVOKED)
    kit.state.entries[consent_key(CONSENT)] = consent_value(uses=2)
    kit.state.entries[pledges_key(1, FINGERPRINT)] = pledge_value(PledgeMarks.IMPAIRED)
    kit.recheck.facts = healthy_facts(red_letter())
    assert [each.rule for each in kit.watcher.check_all()] == ["pledge_impaired", "watch_red_letters"]
    assert kit.watcher.check_all() == []
    kit.state.entries[consent_key(CONSENT)] = consent_value(ConsentStatus.REVOKED)
    assert [each.rule for each in kit.watcher.check_all()] == ["consent_ended"]
    assert kit.watcher.check_all() == []
    assert len(kit.recheck.requests) == 1


# --- durability -----------------------------------------------------------------------------


def test_following_goes_on_behind_the_last_block(kit: Kit) -> None:
    kit.enrol()
    events = FakeEvents([*block(101, attested()), *block(102, attested())])
    kit.watcher.run(events, after=EventId.after_block(50))
    events.list += block(103, amended(kit.keys[0]))
    kit.state.entries[kit.keys[0]] = value_of(2, Status.VOIDED)
    kit.reopen().run(events)
    assert events.after == [EventId.after_block(50), EventId.after_block(102)]
    assert kit.rules() == ["record_changed"]
    kit.reopen().run(FakeEvents(block(103, amended(kit.keys[0]))))
    assert kit.rules() == ["record_changed"]


def test_half_a_block_is_no_block(kit: Kit) -> None:
    kit.enrol()
    kit.state.entries[kit.keys[0]] = value_of(2, Status.VOIDED)
    whole = block(101, amended(kit.keys[0]), attested())
    kit.watcher.run(FakeEvents(whole[:2]))
    assert kit.store.position() is None
    assert kit.rules() == []
    kit.watcher.run(FakeEvents(whole))
    assert kit.rules() == ["record_changed"]
    assert kit.store.position() == EventId.after_block(101)


def test_a_crash_before_the_commit_asks_for_the_same_use(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.enrol()
    kit.state.entries[key_of(kit.tag, 4)] = value_of()
    kit.recheck.facts = healthy_facts(red_letter())

    def power_cut(*_arguments: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(WatchStore, "commit", power_cut)
        with pytest.raises(OSError, match="power cut"):
            kit.watcher.take(block(101, attested()))
    assert kit.rules() == []
    kit.reopen().take(block(101, attested()))
    assert kit.rules() == ["watch_red_letters"]
    assert len(kit.recheck.requests) == 2
    assert len(set(kit.recheck.requests)) == 1


def test_a_node_that_is_down_is_waited_for(kit: Kit) -> None:
    kit.enrol()
    kit.state.entries[kit.keys[0]] = value_of(2, Status.VOIDED)
    kit.state.down = 2
    kit.watcher.run(FakeEvents(block(101, amended(kit.keys[0]))))
    assert kit.rules() == ["record_changed"]


def test_a_lying_node_stops_the_watch_and_not_the_place(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.enrol()

    def lie(*_arguments: object, **_more: object) -> None:
        raise VerificationError("map_proof_invalid", "made up")

    monkeypatch.setattr(kit.state, "read", lie)
    with pytest.raises(VerificationError, match="map_proof_invalid"):
        kit.watcher.run(FakeEvents(block(101, amended(kit.keys[0]))))
    assert kit.store.position() is None


def test_hostile_events_are_survived(kit: Kit) -> None:
    kit.enrol()
    rng = random.Random(11)
    print("seed 11")
    types = (
        "record.attested",
        "record.amended",
        "pledge.impaired",
        "consent.revoked",
        "pledge.contested",
        "x",
    )
    for _ in range(120):
        subject = rng.choice(
            (
                "",
                "0",
                "zz",
                "1/5/20255",
                "1/5/2025\n",
                "00" * rng.randrange(70),
                rng.randbytes(rng.randrange(50)).hex(),
                kit.keys[0].hex().upper(),
                kit.keys[0].hex() + "00",
            )
        )
        assert kit.watcher.take(block(rng.randrange(1, 10**12), (rng.choice(types), subject, {}))) == []
    assert kit.recheck.requests == []


def test_released_loans_are_forgotten(kit: Kit) -> None:
    kit.enrol()
    kit.store.release("L1")
    kit.state.entries[kit.keys[0]] = value_of(2, Status.VOIDED)
    consent = ("consent.revoked", CONSENT.hex(), {})
    assert kit.watcher.take(block(101, amended(kit.keys[0]), attested(), attested(year=2026), consent)) == []
    assert kit.store.loans() == []


def test_two_loans_of_one_borrower_are_both_told(kit: Kit) -> None:
    kit.enrol()
    kit.enrol(loan="L2")
    kit.state.entries[kit.keys[0]] = value_of(2, Status.VOIDED)
    assert [each.loan for each in kit.watcher.take(block(101, amended(kit.keys[0])))] == ["L1", "L2"]


def test_the_file_is_the_owner_s_alone_and_of_our_kind(kit: Kit, tmp_path: Path) -> None:
    assert stat.S_IMODE(kit.path.stat().st_mode) == 0o600
    other = tmp_path / "other"
    other.write_bytes(b"no database at all, and long enough to be looked at " * 10)
    with pytest.raises(FormatError, match="not a watch file"):
        WatchStore(other)


def test_a_full_disk_is_trouble_of_the_moment(kit: Kit) -> None:
    kit.enrol()
    database = kit.store._db
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    there = kit.store.loans()
    with pytest.raises(UnavailableError, match="full"):
        kit.store.enrol(replace(kit.loan(), loan="M", product="p" * 40_000))
    assert kit.store.loans() == there, "nothing is half there"
    database.execute("PRAGMA max_page_count = 100000")
    kit.store.enrol(replace(kit.loan(), loan="M"))
    assert len(kit.store.loans()) == len(there) + 1


def test_a_file_that_another_process_holds_is_trouble_of_the_moment(kit: Kit) -> None:
    kit.store._db.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(kit.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked"):
            kit.enrol()
        other.execute("ROLLBACK")
    kit.enrol()


def test_a_loan_comes_back_as_it_went_in(kit: Kit) -> None:
    loan = kit.loan()
    kit.store.enrol(loan)
    kit.store.enrol(replace(loan, product="another"))
    assert kit.store.loans() == [(loan, False)]


def test_events_are_the_only_thing_that_is_trusted_less_than_state(kit: Kit) -> None:
    """An event never carries what an alert says: the status in it is a lie here."""
    kit.enrol()
    kit.state.entries[kit.keys[0]] = value_of(2, Status.VOIDED)
    event: Event = block(101, amended(kit.keys[0]))[0]
    assert event.data["status"] == int(Status.REVERSED)
    (alert,) = kit.watcher.take(block(101, amended(kit.keys[0])))
    assert dict(alert.data) == {"voided": 1}
