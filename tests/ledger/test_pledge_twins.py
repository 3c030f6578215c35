"""The real invoices that two enterprises both show: what is pledged from one side is refused from the other."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from chainkit import INVOICE, ISSUER, TestChain, digest, make_genesis, tag_key
from pledgekit import BANK, NOW

from taxledger.ledger import limits, statekeys
from taxledger.ledger.operations import AttestGroup, encode_attest, encode_pledge
from taxledger.ledger.permit import sign_permit
from taxledger.ledger.pledgeoperations import PledgePlace
from taxledger.ledger.records import fingerprint, identity, record_period
from taxledger.nodes.sources.cumcm import CumcmSource
from taxledger.nodes.sources.rows import SourceRow

DATA = Path(os.environ.get("TAXLEDGER_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
CUMCM = DATA / "cumcm2020c"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CUMCM.is_dir(), reason="TAXLEDGER_DATA has no cumcm2020c"),
]
TWINS = {("E14", "E131"): 3_336, ("E138", "E155"): 1_083, ("E255", "E264"): 423}
Invoice = tuple[bytes, bytes, int]
"""(map key, fingerprint, status)."""


def pieces(invoices: list[Invoice], size: int) -> Iterator[list[Invoice]]:
    return (invoices[at : at + size] for at in range(0, len(invoices), size))


def sales(enterprise: str) -> Iterator[tuple[int, bytes, Invoice]]:
    """(year, what makes it one record, invoice) of each sale; secrets and tags are made up, the identity is not."""
    source = CumcmSource()
    for path in sorted(CUMCM.glob(f"f[12]_output/{enterprise}.csv.gz")):
        for row in source.rows(path):
            assert isinstance(row, SourceRow)
            identified = identity(source.schema, row.values)
            year, month = record_period(source.schema, row.values)
            mark = fingerprint(digest("year", year), source.schema, row.values, identified)
            assert mark is not None
            tag, rid = digest("tag", enterprise, year)[:16], digest("rid", enterprise, identified)[:16]
            key = statekeys.record_key(ISSUER, INVOICE, tag, month, rid)
            yield year, rid, (key, mark, row.status)


def attested(chain: TestChain, enterprise: str) -> dict[bytes, Invoice]:
    """Put the sales of an enterprise on the ledger; the invoices by fingerprint, of repeats the first."""
    found: dict[bytes, Invoice] = {}
    by_year: dict[int, dict[bytes, Invoice]] = defaultdict(dict)
    for year, _rid, invoice in sales(enterprise):
        by_year[year].setdefault(invoice[0], invoice)
        found.setdefault(invoice[1], invoice)
    for year, invoices in sorted(by_year.items()):
        for part in pieces(sorted(invoices.values()), 1_000):
            groups: dict[tuple[int, int], list[Invoice]] = defaultdict(list)
            for invoice in part:
                groups[invoice[0][20], invoice[2]].append(invoice)
            payload = encode_attest(
                INVOICE,
                year,
                None,
                [
                    AttestGroup(
                        tag=members[0][0][4:20],
                        month=month,
                        schema=1,
                        status=status,
                        entries=b"".join(key[21:] + digest(key) + mark for key, mark, _ in members),
                    )
                    for (month, status), members in sorted(groups.items())
                ],
            )
            assert chain.result(payload) == (0, None)
    return found


def places(chain: TestChain, invoices: list[Invoice], bank: int) -> list[int]:
    """Codes of pledging the whole of each, in blocks as they come."""
    codes = []
    for part in pieces(invoices, limits.block_transactions_max):
        chain.at(max(chain.time_ms + 1_000, NOW))
        signed = []
        for key, mark, _status in part:
            permit = sign_permit(
                chain.signer(ISSUER, "transaction"),
                chain.chain_id,
                record_key=key,
                version=1,
                fingerprint=mark,
                lender=bank,
                not_after=chain.time_ms + 3_600_000,
            )
            place = PledgePlace(permit=permit, ppm=1_000_000, not_after=None, nonce=key[-16:])
            signed.append(chain.sign(encode_pledge(place), bank))
        codes += [code for code, _ in chain.results(*signed)]
    return codes


@pytest.mark.parametrize("pair", TWINS, ids="-".join)
def test_every_shared_invoice_is_pledged_once(pair: tuple[str, str]) -> None:
    chain = TestChain(make_genesis())
    for year in range(2016, 2021):
        assert chain.result(tag_key(chain.chain_id, year)) == (0, None)
    one, other = (attested(chain, enterprise) for enterprise in pair)
    shared = sorted(one.keys() & other.keys())
    assert len(shared) == TWINS[pair]
    valid = [mark for mark in shared if one[mark][2] == other[mark][2] == 1]
    assert places(chain, [one[mark] for mark in valid], BANK) == [0] * len(valid)
    assert places(chain, [other[mark] for mark in valid], BANK) == [49] * len(valid)
    voided = [side[mark] for mark in shared for side in (one, other) if side[mark][2] == 2]
    assert places(chain, voided, BANK) == [48] * len(voided)
    marked = [chain.view.get(statekeys.pledges_key(ISSUER, mark)) for mark in valid]
    assert all(value is not None and value[40] == 2 for value in marked), "each is contested"
    alone = [side[mark] for side in (one, other) for mark in sorted(side.keys() - set(shared))][:500]
    assert set(places(chain, [each for each in alone if each[2] == 1], BANK)) <= {0}
