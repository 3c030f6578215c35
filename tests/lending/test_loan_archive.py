"""Archives: a whole loan verifies offline; nothing in one can be changed, left out or added."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from archivekit import (
    ACCOUNT,
    LENDER_KEY,
    LOAN,
    NEWER,
    PRODUCT,
    SUBJECT_KEY,
    Story,
    disclosed,
    policy_file,
    whole_story,
)
from disclosurekit import QUERY, build
from world import NOW_MS

from taxledger.ledger import canonical, limits
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import (
    FormatError,
    InputError,
    LimitError,
    RefusedError,
    TaxledgerError,
    UnavailableError,
    VerificationError,
)
from taxledger.ledger.hashing import sha256
from taxledger.ledger.policies import Policies, decode_policies
from taxledger.ledger.signedbody import encode_signed_body
from taxledger.lending.archive import (
    ArchiveReport,
    PaymentDigest,
    encode_archive,
    gather_archive,
    name_policy,
    payment_files,
    verify_archive,
    write_archive,
)
from taxledger.lending.assessing import Case, assess
from taxledger.lending.decision import Decision, Reason, decode_decision, encode_decision
from taxledger.lending.evidence import EvidenceFile
from taxledger.lending.loans.contract import sign_acceptance, sign_contract
from taxledger.lending.loans.draworder import sign_draw_order
from taxledger.lending.loans.life import LoanEngine
from taxledger.lending.loans.ports import Application, Evidence, EvidenceRequest, PledgeOrder, Ports
from taxledger.lending.loans.store import LoanStore, open_store
from taxledger.lending.payments.outbox import PaymentOutbox
from taxledger.lending.products.product import decode_product
from taxledger.lending.watch import watched_loan
from taxledger.lending.watch.watched import digest_of_entries

OTHER = Signer(sha256(b"somebody else"))


@pytest.fixture(scope="module")
def story() -> Story:
    return whole_story()


@pytest.fixture(scope="module")
def archive(story: Story) -> bytes:
    return write_archive(LENDER_KEY, **story.arguments())


def policies() -> Policies:
    return decode_policies(policy_file())


def check(data: bytes) -> ArchiveReport:
    return verify_archive(data, policies(), LENDER_KEY.public_key)


def sealed(story: Story, *, key: Signer = LENDER_KEY, **changes: Any) -> bytes:
    """An archive that nobody has verified."""
    decided = sum(each.kind == "decided" for each in changes.get("events", story.events))
    named = [name_policy(policies().held[0])] * decided
    return encode_archive(key, **story.arguments(**{"policies": named, **changes}))


def code_of(data: bytes) -> str:
    with pytest.raises(VerificationError) as caught:
        check(data)
    return caught.value.code


# --- what verifies --------------------------------------------------------------------------


def test_a_whole_loan(archive: bytes, story: Story) -> None:
    report = check(archive)
    assert (report.loan, report.state, report.lender) == (LOAN, "closed", 2)
    assert report.decisions == (("approve", "2024-12-31"),)
    assert (report.limit, report.amount, report.rate_ppm) == (story.decision.limit, 500_000, 52_000)
    assert (report.paid, report.repaid_principal, report.principal) == (800_000, 800_000, 0)
    # 500,000 for 30 days, the rest for 4, that and 300,000 for 31, and for 75: by hand, rounded once a repayment.
    first = round(500_000 * 52_000 * 30 / 360_000_000)
    after_first = 500_000 - (200_000 - first)
    exact = after_first * 4 + (after_first + 300_000) * 31
    second = round(exact * 52_000 / 360_000_000)
    after_second = after_first + 300_000 - (100_000 - second)
    third = round(after_second * 75 * 52_000 / 360_000_000)
    assert report.repaid_interest == first + second + third
    assert (report.events, report.files, report.alerts) == (len(story.events), 3, 1)
    assert verify_archive(archive, policies()) == report


def test_the_same_loan_is_the_same_archive(archive: bytes) -> None:
    assert write_archive(LENDER_KEY, **whole_story().arguments()) == archive


def test_a_loan_under_way() -> None:
    story = Story()
    story.decide()
    story.agree()
    story.draw(1, 500_000, "2025-06-16")
    report = check(write_archive(LENDER_KEY, **story.arguments()))
    assert (report.state, report.principal, report.repaid_interest) == ("paid_out", 500_000, 0)


def test_an_application_that_was_refused() -> None:
    story = Story(product=PRODUCT.replace(b'at_least = "1,000.00"', b'at_least = "9,000,000.00"'))
    story.decide()
    story.note("refused", [1, []])
    report = check(write_archive(LENDER_KEY, **story.arguments()))
    assert (report.state, report.decisions[0][0], report.amount) == ("refused", "refuse", None)


def test_an_application_without_evidence() -> None:
    story = Story()
    story.decide(evidence=False)
    story.note("incomplete", [1, []])
    assert check(write_archive(LENDER_KEY, **story.arguments())).state == "incomplete"


# --- corrupt --------------------------------------------------------------------------------


def test_no_byte_can_be_changed(archive: bytes) -> None:
    rng = random.Random(5)
    print("seed 5")
    ends = [*range(300), *range(len(archive) - 300, len(archive))]
    for at in sorted({*ends, *rng.sample(range(len(archive)), 1_500)}):
        changed = bytearray(archive)
        changed[at] ^= 1 << rng.randrange(8)
        with pytest.raises(TaxledgerError):
            check(bytes(changed))


def test_no_length_but_its_own(archive: bytes) -> None:
    for size in [*range(200), *range(200, len(archive), 997), len(archive) - 1]:
        with pytest.raises(InputError):
            check(archive[:size])
    with pytest.raises(InputError):
        check(archive + b"\0")


def _refusal(data: bytes) -> str:
    """Why it is refused; empty where it is not."""
    try:
        check(data)
    except TaxledgerError as error:
        return str(error) or "refused"
    return ""


def _body(archive: bytes) -> list[Any]:
    body: list[Any] = canonical.decode(canonical.decode(archive)[2])
    return body


def test_a_lender_that_seals_changed_bytes_is_found_out(archive: bytes) -> None:
    """Every byte that the lender does not only claim, flipped under its own seal."""
    body = canonical.encode(_body(archive))
    value = _body(archive)
    # When it was sealed, digests of payment messages, and what an alert said: nothing else says so.
    claimed = [canonical.encode(value[3]), value[9][0][1], value[9][1][1], value[10][0].encode()]
    claimed.append(canonical.encode(value[2][0][3]))  # when the lender had verified the policy that it names
    places = [body.index(each) for each in claimed]
    free = {at for place, each in zip(places, claimed, strict=True) for at in range(place, place + len(each))}
    rng = random.Random(6)
    print("seed 6")
    refused = 0
    for at in rng.sample(range(len(body)), 400):
        changed = bytearray(body)
        changed[at] ^= 1 << rng.randrange(8)
        signature = LENDER_KEY.sign(b"taxledger/loan_archive/1" + bytes(changed))
        raw = canonical.encode([1, "loan_archive", bytes(changed), LENDER_KEY.public_key, signature])
        said = _refusal(raw)
        assert "archive_seal_invalid" not in said, "the test does not seal as the lender does"
        assert said or at in free, f"byte {at} of the body is irrelevant"
        refused += bool(said)
    assert refused > 370


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("archive_files_mismatch", lambda story: {"files": story.files[:-1]}),
        ("archive_files_mismatch", lambda story: {"files": [*story.files, b"one more"]}),
        ("archive_products_mismatch", lambda story: {"products": []}),
        ("archive_products_mismatch", lambda story: {"products": [PRODUCT, PRODUCT + b"# another\n"]}),
        ("archive_products_mismatch", lambda story: {"products": [PRODUCT + b"# another\n"]}),
        ("archive_products_mismatch", lambda story: {"scorecards": {"unused": b"x"}}),
        ("archive_payments_mismatch", lambda story: {"payments": story.payments[:1]}),
        (
            "archive_payments_mismatch",
            lambda story: {"payments": [*story.payments, PaymentDigest(draw=3, digest=bytes(32))]},
        ),
        ("archive_alert_mismatch", lambda story: {"alerts": [story.alerts[0].replace(LOAN, "L-2024-2")]}),
        ("archive_alert_mismatch", lambda story: {"alerts": [story.alerts[0].replace("120-3", "120-4")]}),
        ("archive_alert_mismatch", lambda story: {"alerts": [" " + story.alerts[0]]}),
        ("archive_events_broken", lambda story: {"alerts": ["no JSON"]}),
        ("archive_policy_mismatch", lambda story: {"policies": []}),
    ],
)
def test_contents(story: Story, code: str, changes: Callable[[Story], dict[str, Any]]) -> None:
    assert code_of(sealed(story, **changes(story))) == code


def test_whose_seal(archive: bytes, story: Story) -> None:
    foreign = sealed(story, key=OTHER)
    assert code_of(foreign) == "archive_key_mismatch"
    with pytest.raises(VerificationError, match="archive_key_mismatch: lender's key in the contract"):
        verify_archive(foreign, policies())  # nobody said whose seal it must be, but the contract does


def test_nothing_is_written_that_does_not_verify(story: Story) -> None:
    with pytest.raises(VerificationError, match="archive_files_mismatch"):
        write_archive(LENDER_KEY, **story.arguments(files=story.files[:-1]))


# --- a lender that changes what happened ------------------------------------------------------


def _replaced(position: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda each: [*each[:position], value, *each[position + 1 :]]


@pytest.mark.parametrize(
    ("code", "kind", "change"),
    [
        ("archive_consent_mismatch", "applied", _replaced(1, "uscc:91110000000000000A")),
        ("archive_consent_mismatch", "consent_given", _replaced(2, OTHER.public_key)),
        ("archive_consent_mismatch", "consent_given", _replaced(3, bytes(16))),
        ("archive_consent_mismatch", "consent_given", _replaced(4, 3)),
        ("archive_decision_mismatch", "evidence_asked", _replaced(2, "2024-12-30")),
        ("archive_decision_mismatch", "decided", _replaced(2, "refer")),
        ("archive_decision_mismatch", "evidence", _replaced(3, [["custodian_silent", "a", "b"]])),
        (
            "archive_subject_mismatch",
            "evidence",
            lambda each: [1, [[["uscc:91110000000000000A", *each[1][0][0][1:]], each[1][0][1]]], None, []],
        ),
        ("archive_draw_mismatch", "draw_ordered", _replaced(2, 499_999)),
        ("archive_pledges_mismatch", "pledged", _replaced(1, [bytes(16)])),
        ("loan_events_broken", "repaid", _replaced(4, 1)),
        ("loan_events_broken", "offered", _replaced(1, b"no offer")),
        ("archive_events_broken", "applied", lambda _each: [1]),
        ("archive_events_broken", "evidence", lambda _each: [1, 5, None, []]),
        ("archive_events_broken", "decided", lambda _each: []),
    ],
)
def test_events(code: str, kind: str, change: Callable[[list[Any]], list[Any]]) -> None:
    assert code_of(sealed(whole_story(change={kind: change}))) == code


@pytest.mark.parametrize(
    "changes",
    [
        {"limit": 999_999},
        {"term_months_max": 24},
        {"revolving": False},
        {"product_version": 4},
        {"decision": bytes(32)},
        {"currency": "EUR"},
        {"lender": 3},
        {"chain_id": bytes(16)},
        {"valid_until_ms": NOW_MS + 8 * 86_400_000},
    ],
)
def test_an_offer_is_what_was_decided(changes: dict[str, Any]) -> None:
    story = Story()
    story.decide()
    story.agree(**changes)
    assert code_of(sealed(story)) == "archive_offer_mismatch"


def test_a_decision_that_the_evidence_does_not_give() -> None:
    """A higher limit than the rules give, signed by everyone and sealed."""
    story = Story()
    story.decide()
    better = encode_decision(
        type(story.decision)(
            **{
                **{name: getattr(story.decision, name) for name in story.decision.__slots__},
                "limit": story.decision.limit + 100,
            }
        )
    )
    story.files[1] = better
    story.decision = decode_decision(better)
    story.events.pop()
    story.note("decided", [1, sha256(better), "approve", []])
    story.agree()
    assert code_of(sealed(story)) == "archive_decision_mismatch"


def test_evidence_under_another_consent() -> None:
    """Good evidence about the same enterprise, but not what the borrower of this loan consented to."""
    _world, data, other = build(nonce=sha256(b"another consent"))
    story = whole_story(
        change={"consent_given": lambda each: [*each[:1], sha256(other.raw), *each[2:]]},
    )
    assert data != disclosed()[1]
    story.files[0] = other.raw
    assert code_of(sealed(story)) == "archive_consent_mismatch"


def test_evidence_too_old_for_its_decision() -> None:
    story = Story()
    story.decide()
    late = encode_decision(
        type(story.decision)(
            **{
                **{name: getattr(story.decision, name) for name in story.decision.__slots__},
                "decided_ms": NOW_MS + 601_000,
            }
        )
    )
    story.files[1] = late
    story.events.pop()
    story.note("decided", [1, sha256(late), "approve", []])
    with pytest.raises(VerificationError, match=r"archive_decision_mismatch.*checkpoint_stale"):
        check(sealed(story))


def test_a_contract_with_another_key_of_the_lender() -> None:
    story = Story()
    story.decide()
    story.agree(lender_key=OTHER)
    assert code_of(sealed(story)) == "archive_key_mismatch"


def test_an_acceptance_beyond_the_offer() -> None:
    story = Story()
    story.decide()
    offer = story.offer()
    story.note("offered", [1, offer])
    acceptance = sign_acceptance(
        SUBJECT_KEY,
        offer,
        amount=story.decision.limit + 1,
        term_months=6,
        account=ACCOUNT,
        accepted_ms=NOW_MS,
    )
    body = [1, offer, acceptance, NOW_MS]
    raw = encode_signed_body("loan_contract", "loan_contract", body, LENDER_KEY)
    story.note("accepted", [1, raw, LENDER_KEY.public_key])
    with pytest.raises(VerificationError, match="amount_outside_offer"):
        check(sealed(story))


def test_an_acceptance_by_another_key() -> None:
    story = Story()
    story.decide()
    offer = story.offer()
    story.note("offered", [1, offer])
    acceptance = sign_acceptance(OTHER, offer, amount=1, term_months=6, account=ACCOUNT, accepted_ms=NOW_MS)
    contract = sign_contract(LENDER_KEY, offer, acceptance, borrower_key=OTHER.public_key, signed_ms=NOW_MS)
    story.note("accepted", [1, contract.raw, LENDER_KEY.public_key])
    with pytest.raises(VerificationError, match="acceptance_key_mismatch"):
        check(sealed(story))


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("draw_key_mismatch", {"signer": OTHER}),
        ("draw_contract_mismatch", {"contract": bytes(32)}),
        ("archive_draw_mismatch", {"number": 3}),
        ("archive_draw_mismatch", {"amount": 299_999}),
        ("draw_expired", {"valid_until_ms": NOW_MS}),
    ],
)
def test_a_draw_that_the_enterprise_did_not_order(code: str, changes: dict[str, Any]) -> None:
    story = Story()
    story.decide()
    story.agree()
    story.draw(1, 500_000, "2025-06-16")
    order = story.order(**{"number": 2, "amount": 300_000, **changes})
    story.draw(2, 300_000, "2025-06-20", order)
    assert code_of(sealed(story)) == code


def test_more_drawn_than_agreed() -> None:
    story = Story()
    story.decide()
    story.agree()
    story.draw(1, 500_000, "2025-06-16")
    rest = story.decision.limit - 500_000 + 1
    story.draw(2, rest, "2025-06-17", story.order(2, rest))
    assert code_of(sealed(story)) == "archive_line_exceeded"


def test_decided_under_another_policy(archive: bytes, story: Story) -> None:
    """The lender names another policy and seals that: the evidence is not of it."""
    other = decode_policies(policy_file(NEWER))
    raw = sealed(story, policies=[name_policy(other.held[0])])
    with pytest.raises(VerificationError, match="policy_outdated"):
        verify_archive(raw, other, LENDER_KEY.public_key)


# --- bounds ---------------------------------------------------------------------------------


def test_bounds() -> None:
    def raw(body: bytes) -> bytes:
        signature = OTHER.sign(b"taxledger/loan_archive/1" + body)
        return canonical.encode([1, "loan_archive", body, OTHER.public_key, signature])

    bomb = b"\xdd" + (limits.loan_archive_containers_max + 1).to_bytes(4, "big")
    bomb += b"\x90" * (limits.loan_archive_containers_max + 1)
    with pytest.raises(LimitError, match="arrays and maps"):
        check(raw(bomb))
    with pytest.raises(LimitError, match="arrays and maps"):
        check(b"\x92\x90\x90")
    with pytest.raises(LimitError, match="bytes"):
        check(bytes(limits.loan_archive_bytes_max + 1))
    for body in (b"", b"\x90", b"\xc1", canonical.encode([1] * 11), canonical.encode({"a": 1})):
        with pytest.raises(InputError):
            check(raw(body))


def test_events_of_the_right_form_and_no_sense(story: Story) -> None:
    rng = random.Random(8)
    print("seed 8")
    bodies = [
        canonical.encode(each) for each in (None, 1, [], [1], [1, 2], [1, [2]], {"a": b""}, [1, "x" * 99])
    ]
    for _ in range(60):
        value = _body(sealed(story))
        event = rng.choice(value[7])
        event[3] = rng.choice([each for each in bodies if each != event[3]])
        changed = Story()
        for kind, _key, at_ms, body in value[7]:
            changed.note(kind, canonical.decode(body), at_ms)
        changed.payments, changed.alerts, changed.files = story.payments, story.alerts, story.files
        with pytest.raises(VerificationError):
            check(sealed(changed))


# --- of the engine ----------------------------------------------------------------------------


class World:
    """The engine's ports: real evidence, a decision by ``assess``, payments into a folder."""

    def forward(self, artefact: bytes, *, key: str) -> tuple[Reason, ...]:
        return ()

    def collect(self, request: EvidenceRequest) -> Evidence:
        return Evidence(files=(EvidenceFile(query=QUERY, data=disclosed()[1]),))

    def decide(self, request: EvidenceRequest, came: Evidence, decided_ms: int) -> Decision:
        case = Case(
            application=request.application.id,
            product=decode_product(PRODUCT, {}),
            subject=request.application.subject,
            as_of=request.as_of,
            security=(),
            recipient=2,
            age_ms_max=600_000,
        )
        return assess(case, came.files, came.pledges, disclosed()[0].policy, decided_ms=decided_ms)

    def place(self, order: PledgeOrder, *, key: str) -> tuple[bytes, ...]:
        raise AssertionError("no security")

    def release(self, pledges: tuple[bytes, ...], *, key: str) -> None:
        raise AssertionError("no security")

    day = date(2025, 6, 15)

    def now_ms(self) -> int:
        return NOW_MS

    def today(self) -> date:
        return self.day


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LoanStore]:
    made = open_store(f"sqlite:///{tmp_path / 'loans.sqlite'}")
    yield made
    made.close()


def test_a_loan_of_the_engine_is_archived(store: LoanStore, tmp_path: Path) -> None:
    world = World()
    ports = Ports(
        consents=world,
        evidence=world,
        decide=world.decide,
        pledges=world,
        payments=PaymentOutbox(tmp_path / "out", ACCOUNT),
        clock=world,
    )
    engine = LoanEngine(store, ports, lender=2, contract_key=LENDER_KEY)
    engine.apply(
        Application(
            id=LOAN, subject=QUERY.subject, product="small", channel="direct", as_of=date(2024, 12, 31)
        )
    )
    engine.consent(LOAN, disclosed()[2])
    loan = engine.advance(LOAN)

    def archived(**changes: Any) -> ArchiveReport:
        arguments: dict[str, Any] = {
            "policies": policies(),
            "products": {"small": PRODUCT, "other": b"another product"},
            "scorecards": {"unused": b"x"},
            "payment_file": payment_files(tmp_path / "out"),
            "alerts": (),
            "sealed_ms": NOW_MS,
            **changes,
        }
        return check(gather_archive(LENDER_KEY, store, LOAN, **arguments))

    assert archived().state == "offered"
    with pytest.raises(RefusedError, match="loan_not_paid_out"):
        watched_loan(store, LOAN, policies())
    acceptance = sign_acceptance(
        SUBJECT_KEY, loan.offer_raw, amount=400_000, term_months=6, account=ACCOUNT, accepted_ms=NOW_MS
    )
    engine.accept(LOAN, acceptance)
    loan = engine.advance(LOAN)
    assert loan.contract is not None
    order = sign_draw_order(
        SUBJECT_KEY, loan.contract.digest, number=2, amount=100_000, valid_until_ms=NOW_MS + 1
    )
    engine.draw(LOAN, order)
    engine.advance(LOAN)
    watched = watched_loan(store, LOAN, policies())
    assert (watched.loan, watched.product, watched.as_of) == (LOAN, "small", "2024-12-31")
    assert [(each.issuer, each.kind, each.year) for each in watched.prefixes] == [(1, 5, 2024)]
    assert (watched.pledges, watched.height) == ((), 3)
    held = {key for key in disclosed()[0].content if key.startswith(watched.prefixes[0].prefix)}
    entries = [(key, disclosed()[0].content[key]) for key in held]
    assert digest_of_entries(entries, watched.ranges) == watched.known
    taken = next((tmp_path / "out").glob("*.xml"))
    taken.rename(taken.parent / "taken" / taken.name)
    report = archived()
    assert (report.state, report.paid, report.principal) == ("paid_out", 500_000, 500_000)
    world.day = date(2025, 7, 15)
    engine.repay(LOAN, reference="in-1", amount=502_167, value_date=world.day)
    engine.close(LOAN)
    engine.advance(LOAN)
    report = archived()
    assert (report.state, report.principal, report.repaid_interest) == ("closed", 0, 2_167)
    with pytest.raises(FormatError, match="product file that decided"):
        archived(products={"small": PRODUCT + b"# edited since"})
    (taken.parent / "taken" / taken.name).unlink()
    with pytest.raises(UnavailableError, match="no payment file"):
        archived()
    with pytest.raises(RefusedError, match="loan_unknown"):
        gather_archive(
            LENDER_KEY,
            store,
            "nobody",
            policies=policies(),
            products={},
            scorecards={},
            payment_file=payment_files(tmp_path),
            alerts=(),
            sealed_ms=0,
        )
