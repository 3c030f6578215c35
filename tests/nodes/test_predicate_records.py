"""Predicates at the custodian: attested, found again, superseded when an input changes; killed at each step."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import chainkit
import pytest
from consentkit import SUBJECT_SECRET, make_artefact
from custodykit import CUMCM, Custody, row, unpacked, use_stored_keys, write_cumcm
from predicatekit import plain_net_sales

from taxledger.ledger.consent import Artefact, CustodianTerms, PredicateTerms, revoke_preimage
from taxledger.ledger.consentstate import revoke_hash_of
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.ledger.operations import RevokeChange, encode_attest, encode_erase
from taxledger.ledger.predicates import Argument, evaluate_again, find_formula
from taxledger.ledger.records import Status
from taxledger.ledger.statekeys import split_record_key
from taxledger.ledger.statemap import MapView
from taxledger.nodes.custodian.amend import Amender
from taxledger.nodes.custodian.predicatebook import PredicateBook, Watched
from taxledger.nodes.custodian.predicateinputs import InputReader
from taxledger.nodes.custodian.predicates import (
    CertifiedFacts,
    PredicateAnswer,
    answer_predicates,
    consent_subject,
)
from taxledger.nodes.custodian.predicatewatch import watch_blocks
from taxledger.nodes.custodian.superseding import PREDICATE_SCHEMA
from taxledger.nodes.sealed import database
from taxledger.nodes.sources.mapping import decode_mapping
from taxledger.nodes.sources.tabular import TableSource

AS_OF = "2020-02-29"
THROUGH = "2020-12-31"
SEED = 20260313
ALL: tuple[tuple[str, Argument], ...] = (
    ("grade_at_least", "B"),
    ("net_sales_at_least", 20_000),
    ("no_open_arrears", None),
)
RATINGS = 'kind = "tax_credit_rating"\n[columns]\nyear = "year"\ngrade = "grade"\n[subject]\ncolumn = "who"\n'
ARREARS = (
    'kind = "tax_arrears"\n[columns]\nnumber = "number"\nopened = "opened"\nclosed = "closed"\n'
    '[constants]\ncategory = "arrears"\n[subject]\ncolumn = "who"\n'
)


@dataclass(frozen=True)
class Block:
    transactions: tuple[bytes, ...]
    results: tuple[bytes, ...]


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it and go on."""


class Host(Custody):
    """A custody with the custodian's two entries for predicates."""

    @property
    def facts(self) -> CertifiedFacts:
        chain = self.ledger.chain
        frontier = chain.tip.frontier
        # A snapshot: what comes later does not show in it.
        return CertifiedFacts(
            view=MapView.open(chain.store.snapshot()),
            size=frontier.size,
            root=frontier.root,
            height=chain.tip.height,
        )

    def block(self, height: int) -> Block:
        executed = self.ledger.chain.blocks[height - 1].executed
        return Block(tuple(executed.leaves), tuple(executed.results))

    def artefact(self, *wanted: tuple[str, Argument], subject: str = "cumcm:E1", **changes: Any) -> Artefact:
        member = chainkit.ISSUER
        preimage = revoke_preimage(SUBJECT_SECRET, bytes(32), member)
        terms = tuple(PredicateTerms(name=name, argument=argument) for name, argument in wanted or ALL)
        return make_artefact(
            chain_id=self.ledger.chain.chain_id, subject=subject, mode="proof_only", details=(),
            custodians=(CustodianTerms(member=member, revoke_hash=revoke_hash_of(preimage)),),
            predicates=terms, **changes,
        )  # fmt: skip

    def answer(
        self, artefact: Artefact, as_of: str = AS_OF, certified: Callable[[], CertifiedFacts] | None = None
    ) -> tuple[PredicateAnswer, ...]:
        return answer_predicates(
            self.vault, chainkit.signer(chainkit.ISSUER), self.ledger,
            certified=certified or (lambda: self.facts), artefact=artefact, as_of=as_of,
            clock=self.ledger.clock,
        )  # fmt: skip

    def watch(self) -> int:
        height = self.ledger.chain.tip.height
        return watch_blocks(
            self.vault, chainkit.signer(chainkit.ISSUER), self.ledger, self, height, clock=self.ledger.clock
        )

    def predicates(self, status: Status | None = None) -> dict[bytes, dict[str, Any]]:
        """Fields by key of the predicates on the ledger."""
        found = {}
        for key, value in self.ledger.records().items():
            if key[3] == PREDICATE_SCHEMA.kind and status in (None, value.status):
                opened = self.vault.record(key, value.version)
                assert opened is not None
                found[key] = dict(PREDICATE_SCHEMA.named(opened.values))
        return found

    def table(self, mapping: str, text: str, through: str | None = THROUGH) -> None:
        path = self.folder / f"{len(self.ledger.submitted)}.csv"
        path.write_text(text)
        outcome = self.upload(
            path, source=TableSource(decode_mapping(mapping.encode()), None), through=through
        )
        assert not outcome.sum("rejected")

    def invoices(self, *rows: tuple[str, ...], through: str | None = None) -> None:
        path = self.folder / f"{len(self.ledger.submitted)}-invoices.csv"
        outcome = self.upload(write_cumcm(path, rows), through=through)
        assert not outcome.sum("rejected")

    def key_of(self, **wanted: Any) -> bytes:
        """Key of the record whose fields are as wanted."""
        schemas = {"number": 5, "grade": 3, "opened": 4}
        for key, value in self.ledger.records().items():
            opened = self.vault.record(key, value.version)
            if (
                opened is not None
                and key[3] == schemas[next(iter(wanted))]
                and set(wanted.values()) <= set(opened.values)
            ):
                return key
        raise AssertionError(wanted)

    def amender(self) -> Amender:
        return Amender(self.vault, chainkit.signer(chainkit.ISSUER), self.ledger, clock=self.ledger.clock)

    def erase(self, key: bytes) -> None:
        """As the ledger sees an erasure."""
        version = self.ledger.records()[key].version
        change = RevokeChange(key=key, version=version, reason=5, reason_digest=None)
        assert self.ledger.submit(self.ledger.chain.sign(encode_erase(key[3], [change]))).code == 0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    use_stored_keys(monkeypatch)
    host = Host(tmp_path)
    host.invoices(
        row(1, date="2017/3/5"), row(2, date="2018/3/5"), row(3, date="2019/2/28"), row(4, date="2019/3/1"),
        row(5, date="2020/2/29", net="100.01"), row(6, date="2020/3/1"),
        row(7, date="2019/9/9", enterprise="E2"), row(8, date="2019/9/9", net="999.0", status="作废发票"),
        through=THROUGH,
    )  # fmt: skip
    host.table(RATINGS, "who,year,grade\ncumcm:E1,2018,A\ncumcm:E1,2019,B\ncumcm:E2,2019,M\n")
    host.table(
        ARREARS, "who,number,opened,closed\ncumcm:E1,1,2019-05-01,2019-06-01\ncumcm:E2,2,2019-05-01,\n"
    )
    return host


def results(answers: tuple[PredicateAnswer, ...]) -> list[bool]:
    return [each.result for each in answers]


# --- answering ------------------------------------------------------------------------------


def test_predicates_are_attested_of_the_consent_and_say_where_they_come_from(host: Host) -> None:
    artefact = host.artefact()
    before = host.facts
    answers = host.answer(artefact)
    assert results(answers) == [True, True, True]
    found = host.predicates(Status.VALID)
    assert sorted(found) == sorted(each.key for each in answers)
    sales = found[answers[1].key]
    assert sales == {
        "name": "net_sales_at_least", "currency": "CNY", "amount": 20_000, "result": True,
        "formula": "vat_invoice.net_sales_12m", "formula_version": 1, "as_of": AS_OF, "input_kind": 5,
        "input_from": "2019-03", "input_to": "2020-02", "checkpoint_size": before.size,
        "checkpoint_root": before.root.hex(), "height": before.height,
    }  # fmt: skip
    assert found[answers[0].key]["argument"] == "B"
    issuer, kind, tag, month, _rid = split_record_key(answers[0].key)
    owner = host.vault.tag_owner(tag)
    assert owner is not None
    assert (issuer, kind, month, owner.year) == (chainkit.ISSUER, 12, 2, 2020)
    assert owner.subject == consent_subject(artefact.id(chainkit.ISSUER))
    assert {each.attested_height for each in answers} == {before.height + 1}
    host.verify()


def test_the_record_can_be_computed_again_from_its_inputs(host: Host) -> None:
    for answer in host.answer(host.artefact()):
        fields = host.predicates()[answer.key]
        reader = InputReader(host.vault, host.facts, subject="cumcm:E1", as_of=AS_OF)
        formula = find_formula(answer.terms.name, answer.terms.argument)
        assert evaluate_again(fields, reader.inputs(formula)) is answer.result
        query = reader.query(formula)
        assert (query.from_period, query.to_period) == (fields["input_from"], fields["input_to"])


def test_thresholds_around_the_value_and_other_enterprises(host: Host) -> None:
    sales = [("net_sales_at_least", fen) for fen in (20_000, 20_001, 20_002)]
    assert results(host.answer(host.artefact(*sales))) == [True, True, False]
    assert results(host.answer(host.artefact(*sales), "2020-03-01")) == [
        True,
        True,
        False,
    ]  # the 4th falls out
    assert results(host.answer(host.artefact(subject="cumcm:E2"))) == [False, False, False]
    assert results(host.answer(host.artefact(subject="cumcm:E3"))) == [False, False, True]


def test_asked_again_nothing_is_made_again(host: Host) -> None:
    artefact = host.artefact()
    first = host.answer(artefact)
    submitted = len(host.ledger.submitted)
    again = host.answer(artefact)
    assert [each.key for each in again] == [each.key for each in first]
    assert {each.attested_height for each in again} == {0}
    assert host.watch() == 0
    # Also while an upload has the vault, and for a consent that adds a predicate only that one is made.
    with host.vault.exclusive():
        assert host.answer(artefact) == again
    assert len(host.ledger.submitted) == submitted
    # Another date, and another consent, have records of their own.
    host.answer(artefact, "2020-02-28")
    host.answer(host.artefact(nonce=bytes(32)))
    assert len(host.predicates(Status.VALID)) == 9
    assert len({key[4:20] for key in host.predicates()}) == 2


@pytest.mark.parametrize("as_of", ["2021-01-01", "2019-06-30"])
def test_without_complete_inputs_nothing_is_attested(host: Host, as_of: str) -> None:
    # 2021: nothing attested through. 2019: arrears of 2016, a year without a key.
    submitted = len(host.ledger.submitted)
    with pytest.raises(RefusedError, match=r"inputs_incomplete: \w+_\w+: there is no result"):
        host.answer(host.artefact(), as_of)
    assert len(host.ledger.submitted) == submitted
    assert host.predicates() == {}


def test_an_erased_input_gives_no_answer(host: Host) -> None:
    artefact = host.artefact()
    host.answer(artefact)
    host.erase(host.key_of(number="4"))
    with pytest.raises(
        RefusedError, match="net_sales_at_least: there is no result: a record of the range is erased"
    ):
        host.answer(artefact)
    assert host.watch() == 1
    assert results(host.answer(host.artefact(("no_open_arrears", None)))) == [True]


def test_predicates_that_nobody_knows_and_a_foreign_custodian(host: Host) -> None:
    with pytest.raises(RefusedError, match="predicate_unknown"):
        host.answer(host.artefact(("profit_at_least", 1)))
    other = (CustodianTerms(member=1, revoke_hash=bytes(32)),)
    artefact = make_artefact(custodians=other)
    with pytest.raises(RefusedError, match="consent_custodian_mismatch"):
        host.answer(artefact)


def test_the_ledger_s_refusal_leaves_nothing(host: Host) -> None:
    host.ledger.refuse["attest"] = 3
    with pytest.raises(RefusedError, match="ledger_refused"):
        host.answer(host.artefact())
    host.ledger.refuse.clear()
    assert host.watch() == 0
    assert results(host.answer(host.artefact())) == [True, True, True]
    host.verify()


# --- superseding ----------------------------------------------------------------------------


def void(host: Host) -> None:
    host.amender().amend(host.key_of(number="4"), status=Status.VOIDED, reason="x")


def void_by_upload(host: Host) -> None:
    host.invoices(row(4, date="2019/3/1", status="作废发票"))


def correct(host: Host) -> None:
    host.amender().amend(host.key_of(number="5"), fields={"net": 9_999, "gross": 11_299}, reason="x")


def late_invoice(host: Host) -> None:
    host.invoices(row(99, date="2019/12/31", net="-100.0", tax="0.0"))


def revoke(host: Host) -> None:
    host.amender().revoke(host.key_of(number="5"), reason="x")


def downgrade(host: Host) -> None:
    host.amender().amend(host.key_of(grade="B"), fields={"grade": "D"}, reason="x")


def late_rating(host: Host) -> None:
    host.table(RATINGS, "who,year,grade\ncumcm:E1,2020,M\n", None)


def late_arrears(host: Host) -> None:
    host.table(ARREARS, "who,number,opened,closed\ncumcm:E1,7,2020-01-01,\n", None)


CHANGES = [
    (void, [True, False, True]),
    (void_by_upload, [True, False, True]),
    (correct, [True, False, True]),
    (late_invoice, [True, False, True]),
    (revoke, [True, False, True]),
    (downgrade, [False, True, True]),
    (late_rating, [False, True, True]),
    (late_arrears, [True, True, False]),
]


@pytest.mark.parametrize(("change", "then"), CHANGES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_change_of_an_input_supersedes(
    host: Host, change: Callable[[Host], None], then: list[bool]
) -> None:
    artefact = host.artefact()
    first = host.answer(artefact)
    change(host)
    assert host.watch() == 1
    at = then.index(False)
    (superseded,) = host.predicates(Status.SUPERSEDED)
    assert superseded == first[at].key
    assert host.watch() == 0
    second = host.answer(artefact)
    assert results(second) == then
    assert [one.key == two.key for one, two in zip(first, second, strict=True)] == then
    assert host.watch() == 0
    host.verify()


@pytest.mark.parametrize(("change", "then"), CHANGES, ids=lambda each: getattr(each, "__name__", ""))
def test_an_answer_never_rests_on_inputs_that_have_changed(
    host: Host, change: Callable[[Host], None], then: list[bool]
) -> None:
    """Nobody has watched yet: the answer itself looks whether its inputs are still the same."""
    artefact = host.artefact()
    first = host.answer(artefact)
    change(host)
    assert results(host.answer(artefact)) == then
    assert list(host.predicates(Status.SUPERSEDED)) == [first[then.index(False)].key]
    assert host.watch() == 0
    host.verify()


def close_arrears(host: Host, number: str) -> None:
    key = host.key_of(opened="2019-05-01", number=number)
    host.amender().amend(key, fields={"closed": "2019-07-01"}, reason="x")


@pytest.mark.parametrize(
    "change",
    [
        lambda host: host.invoices(row(98, date="2020/3/1"), row(97, date="2019/1/1")),  # out of the window
        lambda host: host.invoices(row(96, date="2019/9/9", enterprise="E2")),
        lambda host: host.amender().revoke(host.key_of(number="7"), reason="x"),
        lambda host: close_arrears(host, "2"),
        lambda host: host.amender().amend(host.key_of(number="6"), status=Status.VOIDED, reason="x"),
        lambda host: host.answer(host.artefact(nonce=bytes(32))),
        lambda host: host.ledger.submit(host.ledger.chain.sign(encode_attest(5, 2020, "2020-12-31", ()))),
    ],
)  # fmt: skip
def test_other_changes_do_not(host: Host, change: Callable[[Host], Any]) -> None:
    host.answer(host.artefact())
    change(host)
    submitted = len(host.ledger.submitted)
    assert host.watch() == 0
    assert len(host.ledger.submitted) == submitted
    assert not host.predicates(Status.SUPERSEDED)
    watched = PredicateBook(host.vault).watched()
    assert watched is not None
    assert watched.height == host.ledger.chain.tip.height


def test_a_change_between_the_state_and_the_record_is_not_missed(host: Host) -> None:
    """The watch was past the change before the predicate, computed at an older state, came."""
    host.answer(host.artefact(("no_open_arrears", None)))
    old = host.facts
    void(host)
    assert host.watch() == 0
    (answer,) = host.answer(host.artefact(("net_sales_at_least", 20_000)), certified=lambda: old)
    assert answer.result  # true of the state it names
    assert host.watch() == 1
    assert list(host.predicates(Status.SUPERSEDED)) == [answer.key]


def test_a_predicate_that_comes_while_blocks_are_read_is_watched_too(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.answer(host.artefact(("no_open_arrears", None)))
    old = host.facts
    void(host)
    advance, made = PredicateBook.advance, []

    def late(book: PredicateBook, before: Watched, height: int) -> bool:
        if not made:
            made.append(host.answer(host.artefact(("net_sales_at_least", 20_000)), certified=lambda: old))
        return advance(book, before, height)

    monkeypatch.setattr(PredicateBook, "advance", late)
    assert host.watch() == 1
    assert list(host.predicates(Status.SUPERSEDED)) == [made[0][0].key]


def test_a_predicate_that_was_revoked_is_left_alone(host: Host) -> None:
    (answer,) = host.answer(host.artefact(("net_sales_at_least", 20_000)))
    host.amender().revoke(answer.key, reason="x")
    void(host)
    assert host.watch() == 0
    assert list(host.predicates(Status.REVOKED)) == [answer.key]


def test_a_lock_makes_both_wait(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_LOCK_WAIT_S", 0.0)
    host.answer(host.artefact())
    void(host)
    other = host.open()
    with other.exclusive():
        for call in (host.watch, lambda: host.answer(host.artefact())):
            with pytest.raises(UnavailableError, match="another upload"):
                call()
    other.close()
    assert host.watch() == 1


# --- killed ---------------------------------------------------------------------------------


@contextmanager
def killed_at(
    host: Host, monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool
) -> Iterator[list[int]]:
    """The process ends right before, or after, its commit or submission of this number."""
    steps: list[int] = []

    def step(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*arguments: Any) -> Any:
            steps.append(0)
            if len(steps) == number + 1 and not after:
                raise Killed
            done = function(*arguments)
            if len(steps) == number + 1 and after:
                raise Killed
            return done

        return inner

    write = host.vault.database.write

    @contextmanager
    def commit() -> Iterator[Any]:
        steps.append(0)
        if len(steps) == number + 1 and not after:
            raise Killed
        with write() as connection:
            yield connection
        if len(steps) == number + 1 and after:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(host.vault.database, "write", commit)
        patched.setattr(host.ledger, "submit", step(host.ledger.submit))
        yield steps


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_each_step_of_an_answer(host: Host, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    artefact = host.artefact()
    first = host.answer(artefact)
    void(host)
    done = 0
    for number in itertools.count():
        void_more(host, number)
        host.verify()  # the upload brought what was pending to its end
        with killed_at(host, monkeypatch, number, after=after) as steps:
            try:
                host.answer(artefact)
                done = len(steps)
            except Killed:
                pass
        host.reopen()
        answers = host.answer(artefact)
        assert results(answers) == [True, False, True]
        valid = host.predicates(Status.VALID)
        assert sorted(valid) == sorted(each.key for each in answers)
        assert host.watch() == 0
        if done:
            break
    assert done >= 6  # two transactions, each stored, submitted and noted
    assert first[1].key in host.predicates(Status.SUPERSEDED)


def void_more(host: Host, number: int) -> None:
    """Something that changes the inputs again, and not the answers."""
    host.invoices(row(1_000 + number, date="2019/10/10", net="0.01", tax="0.0"))


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_each_step_of_the_watch(host: Host, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    artefact = host.artefact()
    done = 0
    for number in itertools.count():
        answers = host.answer(artefact)
        void_more(host, number)
        with killed_at(host, monkeypatch, number, after=after) as steps:
            try:
                assert host.watch() == 1
                done = len(steps)
            except Killed:
                pass
        host.reopen()
        host.watch()
        assert answers[1].key in host.predicates(Status.SUPERSEDED)
        assert len(host.predicates(Status.VALID)) == 2
        host.verify()
        if done:
            break
    assert done >= 5  # stored, submitted, noted, forgotten, height


# --- real invoices --------------------------------------------------------------------------

COLUMNS = {"开票日期": "date", "金额": "net", "发票状态": "status"}


def plain_rows(path: Path) -> list[dict[str, str]]:
    """Sales of a CUMCM file: equal rows are one invoice, and one that is void anywhere is void."""
    invoices: dict[tuple[str, ...], bool] = {}
    for cells in csv.DictReader(io.StringIO(unpacked(path))):
        identity = tuple(
            cells[name] for name in ("发票号码", "开票日期", "购方单位代号", "金额", "税额", "价税合计")
        )
        invoices[identity] = invoices.get(identity, False) or "作废" in cells["发票状态"]
    rows = []
    for (_number, date, _party, net, *_), is_void in invoices.items():
        year, month, day = date.split("/")
        rows.append(
            {
                "direction": "sale", "date": f"{year}-{int(month):02}-{int(day):02}", "currency": "CNY",
                "net": net, "status": "voided" if is_void else "valid",
            }
        )  # fmt: skip
    return rows


@pytest.mark.skipif(not CUMCM.is_dir(), reason="TAXLEDGER_DATA has no cumcm2020c")
def test_real_enterprises_agree_with_the_second_implementation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stored_keys(monkeypatch)
    host, random = Host(tmp_path), Random(SEED)
    files = {name: CUMCM / f"{name}.csv.gz" for name in ("f1_output/E22", "f2_output/E160", "f1_output/E10")}
    host.upload(*files.values(), through="2020-02-29")
    for name, path in files.items():
        rows = plain_rows(path)
        for as_of in ("2020-02-29", "2019-12-31", "2019-02-28", f"2018-{random.randrange(1, 13):02}-15"):
            fen = int(plain_net_sales(rows, as_of) * 100)
            asked = sorted(("net_sales_at_least", each) for each in (fen - 1, fen, fen + 1))
            asked.sort(key=lambda each: repr(each[1]))
            artefact = host.artefact(*asked, subject=f"cumcm:{name[10:]}")
            answers = host.answer(artefact, as_of)
            said = {each.terms.argument: each.result for each in answers}
            assert said == {fen - 1: True, fen: True, fen + 1: False}, f"{name} {as_of} seed {SEED}"
            assert fen == 0 or Decimal(fen) / 100 == plain_net_sales(rows, as_of)
    assert host.watch() == 0
