"""One real enterprise with 31,961 invoices, three banks: each sees its scope and no more, and the enterprise sees all.

Large dossiers stream with progress; a revocation, a pause or the end of the window stops them on their way.
"""

from __future__ import annotations

import base64
import csv
import gzip
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from custodykit import CUMCM
from sharing import INVOICES, Enterprise, answered, attest, code_of, now_ms, peer

from network import RealNetwork, real_network, until
from taxledger.ledger import canonical
from taxledger.ledger.consent import Artefact, Detail
from taxledger.ledger.disclosure import Disclosed

pytestmark = pytest.mark.skipif(not CUMCM.is_dir(), reason="TAXLEDGER_DATA is not there")
STREAM = "application/vnd.taxledger.dossier-stream"
FILES = {"sale": CUMCM / "f1_output" / "E8.csv.gz", "purchase": CUMCM / "f1_input" / "E8.csv.gz"}
Totals = Counter[tuple[str, str]]


class Told(Enterprise):
    """The enterprise, and what this test knows that happened: (bank, consent, use) → records."""

    def __init__(self, network: RealNetwork, subject: str) -> None:
        super().__init__(network, subject)
        self.reads: dict[tuple[str, bytes, int], int] = {}

    def read(self, bank: str, artefact: Artefact, **query: Any) -> Disclosed:
        """One read by a bank, verified offline, and remembered."""
        asked = self.query(**query)
        answer = self.ask(bank, artefact, asked)
        assert answer.status_code == 200, answer.text
        said = self.verify(bank, answer.content, asked)
        self.reads[bank, said.consent, said.sequence] = len(said.answer.records)
        return said


@pytest.fixture(scope="module")
def giver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("three")
    with real_network(folder / "net", tag_keys=False) as network:
        for number, path in enumerate(FILES.values()):
            copy = folder / f"{number}.csv"
            copy.write_bytes(gzip.decompress(path.read_bytes()))
            attest(network, copy)
        enterprise = Told(network, "cumcm:E8")
        enterprise.register()
        yield enterprise


def expected(first: str, last: str) -> tuple[Totals, Totals]:
    """(count, net in fen) by direction and whether voided, straight from the files, months first to last."""
    counts: Totals = Counter()
    nets: Totals = Counter()
    for direction, path in FILES.items():
        with gzip.open(path, "rt", encoding="utf-8-sig") as text:
            for row in csv.DictReader(text):
                year, month, _day = row["开票日期"].split("/")
                if first <= f"{year}-{int(month):02}" <= last:
                    place = (direction, "voided" if "作废" in row["发票状态"] else "counts")
                    counts[place] += 1
                    nets[place] += int(Decimal(row["金额"]) * 100)
    return counts, nets


def shown(said: Disclosed) -> tuple[Totals, Totals]:
    counts: Totals = Counter()
    nets: Totals = Counter()
    for record in said.answer.records:
        fields = record.fields or {}
        place = (str(fields["direction"]), "voided" if record.status.name == "VOIDED" else "counts")
        counts[place] += 1
        nets[place] += int(fields["net"] or 0)
    return counts, nets


def detail(first: str, last: str, *fields: str) -> Detail:
    return Detail(
        kind=INVOICES, from_period=first, to_period=last, fields=tuple(sorted(fields)) if fields else None
    )


def test_each_bank_verifies_its_scope_and_the_enterprise_sees_every_read(giver: Told) -> None:
    whole = {"from_period": "2016-01", "to_period": "2020-12"}
    year = {"from_period": "2018-01", "to_period": "2018-12"}
    half = {"from_period": "2019-01", "to_period": "2019-06"}
    first = giver.grant("bank1", details=(detail("2016-01", "2020-12"),))
    second = giver.grant("bank2", details=(detail("2018-01", "2018-12", "date", "direction", "net"),))
    third = giver.grant("bank3", details=(detail("2019-01", "2019-06"),), mode="store", retention_days=30)
    said = giver.read("bank1", first, **whole)
    assert shown(said) == expected("2016-01", "2020-12")
    assert len(said.answer.records) == 31_961
    some = giver.read("bank2", second, **year)
    assert shown(some) == expected("2018-01", "2018-12")
    assert {name for each in some.answer.records for name in each.fields or ()} == {
        "date", "direction", "net",
    }  # fmt: skip
    assert shown(giver.read("bank3", third, **half)) == expected("2019-01", "2019-06")
    giver.read("bank3", third, **half)
    # What no consent covers leaves no use.
    assert code_of(giver.ask("bank2", second, giver.query(**whole))) == "consent_period_exceeded"
    assert code_of(giver.ask("bank3", first, giver.query(**whole))) == "consent_recipient_mismatch"
    giver.settled_uses()
    compare_with_the_ledger(giver)


def compare_with_the_ledger(giver: Told) -> None:
    """The enterprise's own list, proved through a node that has no part in it, is what happened."""
    numbers = {home.config.number: name for name, home in giver.network.homes.items()}
    with giver.network.client("bank2") as client:
        proved = client.consents(giver.secret)
    assert set(proved.looked_at) == set(numbers)
    listed = {
        (numbers[each.recipient], each.consent, number): use.count
        for each in proved.consents
        for number, use in each.uses.items()
    }
    assert listed == giver.reads


def streamed(giver: Told, bank: str, artefact: Artefact, **query: Any) -> Iterator[list[Any]]:
    """The frames of a streamed dossier as they come."""
    asked = giver.query(**query)
    client = giver.network.homes[bank].client()
    body = {
        "subject": asked.subject,
        "issuer": 1,
        "kinds": list(asked.kinds),
        "from": asked.from_period,
        "to": asked.to_period,
        "consent": base64.b64encode(artefact.raw).decode(),
    }
    headers = {"Authorization": f"Bearer {client.key}", "Accept": STREAM}
    with (
        httpx.Client(timeout=60) as http,
        http.stream("POST", f"{client.url}/v1/dossiers", json=body, headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        buffer = b""
        for piece in answer.iter_bytes():
            buffer += piece
            while len(buffer) >= 4 and len(buffer) >= (end := 4 + int.from_bytes(buffer[:4], "big")):
                yield canonical.decode(buffer[4:end])
                buffer = buffer[end:]


def test_a_large_dossier_streams_with_progress(giver: Told) -> None:
    artefact = giver.grant("bank1", details=(detail("2016-01", "2020-12"),))
    frames = list(streamed(giver, "bank1", artefact, from_period="2016-01", to_period="2020-12"))
    assert [each[1] for each in frames[:-1]] == ["progress"] * 33
    done = [each[-1] for each in frames[:-1]]
    assert done == sorted(done)
    assert done[-1] == 31_961
    assert frames[-1][1] == "file"
    query = giver.query(from_period="2016-01", to_period="2020-12")
    said = giver.verify("bank1", frames[-1][2], query)
    giver.reads["bank1", said.consent, said.sequence] = len(said.answer.records)


@pytest.mark.parametrize("how", ["revoke", "preimage", "pause"])
def test_it_stops_on_its_way_when_the_consent_does(giver: Told, how: str) -> None:
    artefact = giver.grant("bank1", details=(detail("2016-01", "2020-12"),))
    stopped: list[int] = []
    last = [0]

    def stop() -> None:
        if how == "preimage":
            said = answered(giver.revoke_by_preimage(artefact, "bank3"))
        else:
            said = answered(giver.order(artefact, how))
        stopped.extend([last[0], said["height"]])

    thread = threading.Thread(target=stop)
    frames = []
    for frame in streamed(giver, "bank1", artefact, from_period="2016-01", to_period="2020-12"):
        frames.append(frame)
        if frame[1] == "progress":
            last[0] = frame[-1]
            if len(frames) == 2:
                thread.start()
    thread.join()
    assert frames[-1][1:3] == ["problem", "disclosure_withheld"]
    received = frames[-2][-1]
    assert 1_000 <= received < 31_961
    consent = artefact.id(1)
    (use,) = [each for each in giver.settled_uses() if each[0] == consent.hex()]
    assert use[2] == "partial"
    assert (
        received <= use[4] <= received + 1_000
    )  # what may have left, and no more than a piece of it was lost
    # No piece has left after the block in which the consent ended: when that was certified, at most one was under way.
    assert received <= stopped[0] + 2_000
    giver.reads["bank1", consent, 1] = use[4]


def test_the_end_of_the_window_stops_it_too(giver: Told) -> None:
    artefact = giver.grant("bank1", details=(detail("2016-01", "2020-12"),), not_after=now_ms() + 4_000)
    consent = artefact.id(1)
    query = giver.query(from_period="2016-01", to_period="2020-12").as_list()
    message = [1, "disclose", consent, artefact.digest(1), query, os.urandom(16)]
    assert peer(giver.network, "bank1", "disclose", message)[0] == 200
    assert peer(giver.network, "bank1", "piece", [1, "piece", consent, 1, 0])[0] == 200
    until(lambda: now_ms() > artefact.terms.not_after, "the window has ended")
    status, content = peer(giver.network, "bank1", "piece", [1, "piece", consent, 1, 1])
    assert status == 409
    assert canonical.decode(content)[2] == "disclosure_withheld"
    (use,) = [each for each in giver.settled_uses() if each[0] == consent.hex()]
    assert use[1:] == (1, "partial", 31_961, 0)
    giver.reads["bank1", consent, 1] = 0


def test_no_more_uses_than_were_given(giver: Told) -> None:
    """Eight requests at once, three uses: three are answered, the others are told why not."""
    artefact = giver.grant("bank1", details=(detail("2019-01", "2019-01"),), max_uses=3)
    query = giver.query(from_period="2019-01", to_period="2019-01")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _ask(giver, artefact, query), range(8)))
    good = [each for each in answers if each.status_code == 200]
    assert len(good) == 3
    assert {code_of(each) for each in answers if each not in good} == {"consent_used_up"}
    for each in good:
        said = giver.verify("bank1", each.content, query)
        giver.reads["bank1", said.consent, said.sequence] = len(said.answer.records)
    assert {sequence for _, consent, sequence in giver.reads if consent == artefact.id(1)} == {1, 2, 3}


def _ask(giver: Told, artefact: Artefact, query: Any) -> httpx.Response:
    client = giver.network.homes["bank1"].client()
    body = {
        "subject": query.subject,
        "issuer": 1,
        "kinds": list(query.kinds),
        "from": query.from_period,
        "to": query.to_period,
        "consent": base64.b64encode(artefact.raw).decode(),
    }
    return httpx.post(
        f"{client.url}/v1/dossiers",
        json=body,
        headers={"Authorization": f"Bearer {client.key}"},
        timeout=60,
    )


def test_the_list_of_reads_is_what_happened(giver: Told, tmp_path: Path) -> None:
    """After all of the above: complete, withheld and refused ones."""
    giver.settled_uses()
    compare_with_the_ledger(giver)
    giver.network.agree()
