"""Three banks with different scopes read the same enterprise of the real invoices.

Each verifies offline exactly its scope, to the cent; the enterprise's list of reads is complete and equals what
happened, as any member's node proves it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sharing import INVOICES, Enterprise, attest, code_of

from network import RealNetwork, real_network
from taxledger.api.client.consents import VerifiedConsents
from taxledger.ledger.answer import totals as totals_of
from taxledger.ledger.consent import PREDICATE_KIND, Artefact, Detail, PredicateTerms
from taxledger.ledger.disclosure import Disclosed
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status

from .networks import fen, sums_of
from .stage import ROOT
from .totals import Sums, Totals, add_files

READ, SILENT = "E5", "E117"
"""The enterprise that gives consents, and one that gives none."""
BANKS = ("bank1", "bank2", "bank3")
DIRECTIONS = ("purchase", "sale")


@dataclass(frozen=True)
class Story:
    """What happened, as the test saw it.

    Attributes:
        reads: (bank, what was asked, file) in order; ``log`` (bank, records) of them.
        listed: the enterprise's list, as each member's node proved it.
        refused: codes of what was refused.
    """

    giver: Enterprise
    totals: Totals
    reads: list[tuple[str, Query, bytes]]
    log: list[tuple[str, int]]
    listed: dict[str, VerifiedConsents]
    refused: list[str]

    def verify(self, at: int) -> Disclosed:
        bank, query, data = self.reads[at]
        return self.giver.verify(bank, data, query)

    def sums(self, years: range, direction: str) -> Sums:
        found = Sums()
        for year in years:
            part = self.totals.of(READ, year, direction)
            for name in vars(part):
                setattr(found, name, getattr(found, name) + getattr(part, name))
        return found

    def records(self, years: range) -> int:
        parts = [self.sums(years, direction) for direction in DIRECTIONS]
        return sum(each.count + each.void for each in parts)


def period(years: range, **changes: Any) -> dict[str, Any]:
    return {"from_period": f"{years[0]}-01", "to_period": f"{years[-1]}-12", **changes}


def detail(years: range, *fields: str) -> Detail:
    return Detail(kind=INVOICES, **period(years), fields=fields or None)


ALL, ONE, LAST = range(2017, 2020), range(2018, 2019), range(2019, 2020)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    data = (ROOT / os.environ.get("TAXLEDGER_DATA", "../shared/data") / "cumcm2020c").resolve()
    if not data.is_dir():
        pytest.skip(f"needs the real invoices in TAXLEDGER_DATA: no {data}")
    files = sorted(path for name in (READ, SILENT) for path in data.glob(f"f[12]_*put/{name}.csv.gz"))
    with real_network(tmp_path_factory.mktemp("three") / "net", tag_keys=False) as network:
        attest(network, files[0], "--through", "2020-12-31", *map(str, files[1:]))
        yield live(network, add_files(files))


def live(network: RealNetwork, totals: Totals) -> Story:
    """All of it, up to the enterprise's list; then the network is gone."""
    giver = Enterprise(network, f"cumcm:{READ}")
    giver.register()
    net = fen(totals.of(READ, 2019, "sale").net)
    predicates = tuple(PredicateTerms(name="net_sales_at_least", argument=each) for each in (net, net + 1))
    artefacts = {
        "bank1": giver.grant("bank1", details=(detail(ALL),)),
        "bank2": giver.grant("bank2", details=(detail(ONE, "date", "net"),), max_uses=2),
        "bank3": giver.grant("bank3", details=(), predicates=predicates, mode="proof_only"),
    }
    story = Story(giver, totals, [], [], {}, [])
    answers = period(LAST, kinds=(PREDICATE_KIND,))
    read(story, artefacts, "bank1", **period(ALL))
    refuse(story, artefacts["bank1"], "bank2", **period(ONE))
    read(story, artefacts, "bank2", **period(ONE))
    refuse(story, artefacts["bank2"], "bank2", **period(LAST))
    read(story, artefacts, "bank3", **answers)
    refuse(story, artefacts["bank3"], "bank3", **period(LAST))
    read(story, artefacts, "bank1", **period(ONE))
    refuse(story, artefacts["bank1"], "bank1", **period(range(2016, 2018)))
    other = Query(subject=f"cumcm:{SILENT}", issuer=1, kinds=(INVOICES,), **period(ONE))
    story.refused.append(code_of(giver.ask("bank1", artefacts["bank1"], other)))
    read(story, artefacts, "bank2", **period(ONE))
    refuse(story, artefacts["bank2"], "bank2", **period(ONE))
    giver.settled_uses()
    network.agree()
    for member in network.names:
        with network.client(member) as client:
            story.listed[member] = client.consents(giver.secret)
    network.stop()
    return story


def read(story: Story, artefacts: dict[str, Artefact], bank: str, **asked: Any) -> None:
    query = story.giver.query(**asked)
    answer = story.giver.ask(bank, artefacts[bank], query)
    assert answer.status_code == 200, answer.text
    story.reads.append((bank, query, answer.content))
    records = 2 if bank == "bank3" else story.records(range(int(query.years[0]), int(query.years[-1]) + 1))
    story.log.append((bank, records))


def refuse(story: Story, artefact: Artefact, bank: str, **asked: Any) -> None:
    story.refused.append(code_of(story.giver.ask(bank, artefact, story.giver.query(**asked))))


def test_the_first_bank_sees_all_fields_of_three_years(story: Story) -> None:
    said = story.verify(0)
    assert len(said.answer.records) == story.records(ALL) > 3_000
    assert not any(each.closed for each in said.answer.records)
    assert said.answer.complete(INVOICES)
    rows = totals_of(said.answer)
    for direction in DIRECTIONS:
        expected = story.sums(ALL, direction)
        assert sums_of(rows, direction) == (
            expected.count,
            *(fen(getattr(expected, name)) for name in ("net", "tax", "gross")),
        )
    assert len(story.verify(3).answer.records) == story.records(ONE)


def test_the_second_bank_sees_date_and_net_of_one_year(story: Story) -> None:
    for at in (1, 4):
        records = story.verify(at).answer.records
        assert len(records) == story.records(ONE) > 1_000
        assert all(set(each.fields or ()) == {"date", "net"} for each in records)
        assert {str((each.fields or {})["date"])[:4] for each in records} == {"2018"}
        counted = [each.fields or {} for each in records if each.status in (Status.VALID, Status.REVERSED)]
        parts = [story.sums(ONE, direction) for direction in DIRECTIONS]
        assert len(counted) == sum(each.count for each in parts)
        assert sum(each["net"] for each in counted) == fen(sum((each.net for each in parts), start=0))  # type: ignore[arg-type,misc]
    assert {record.values[0] for record in story.verify(1).answer.records if record.values} == {None}


def test_the_third_bank_sees_two_answers_and_no_invoice(story: Story) -> None:
    records = story.verify(2).answer.records
    answers = {each.fields["amount"]: each.fields["result"] for each in records if each.fields}
    net = fen(story.totals.of(READ, 2019, "sale").net)
    assert answers == {net: True, net + 1: False}
    assert {each.kind for each in records} == {PREDICATE_KIND}


def test_no_bank_verifies_what_another_was_shown(story: Story) -> None:
    for at, (bank, query, data) in enumerate(story.reads):
        for other in BANKS:
            if other != bank:
                with pytest.raises(VerificationError, match="consent_recipient_mismatch"):
                    story.giver.verify(other, data, query)
        assert story.verify(at).terms.recipient == story.giver.network.homes[bank].config.number


def test_the_list_of_reads_is_complete_and_is_what_happened(story: Story) -> None:
    assert story.refused == [
        "consent_recipient_mismatch",
        "consent_period_exceeded",
        "consent_kind_exceeded",
        "consent_period_exceeded",
        "consent_subject_mismatch",
        "consent_used_up",
    ]
    names = {home.config.number: name for name, home in story.giver.network.homes.items()}
    for listed in story.listed.values():
        assert listed.looked_at == tuple(sorted(names))
        assert [names[each.recipient] for each in listed.consents] == ["bank1", "bank2", "bank3"]
        uses = [(names[each.recipient], use) for each in listed.consents for use in each.uses.values()]
        uses.sort(key=lambda each: each[1].opened_height)
        assert [(bank, use.count) for bank, use in uses] == story.log
        assert {use.state.name for _, use in uses} == {"COMPLETE"}
        assert [use.planned_count for _, use in uses] == [records for _, records in story.log]
