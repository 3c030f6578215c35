"""A lender whose policy file is out of date decides nothing: neither for nor against the borrower."""

from __future__ import annotations

import pytest
from disclosureforge import GOOD, POLICY_BYTES, QUERY, forge

from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.policies import decode_policies
from taxledger.lending.evidence import EvidenceFile, check_policy_current

POLICY = decode_policies(POLICY_BYTES)


def test_evidence_of_other_validators_waits_for_the_operator() -> None:
    good = EvidenceFile(query=QUERY, data=GOOD)
    newer = EvidenceFile(query=QUERY, data=forge(after={"changes": {"next_validators_hash": bytes(32)}}))
    check_policy_current([], POLICY)
    check_policy_current([good], POLICY)
    with pytest.raises(UnavailableError, match="taxledger policy update"):
        check_policy_current([good, newer], POLICY)


def test_what_is_otherwise_wrong_is_the_decisions_to_say() -> None:
    check_policy_current([EvidenceFile(query=QUERY, data=b"junk")], POLICY)
    check_policy_current([EvidenceFile(query=QUERY, data=GOOD[:-1])], POLICY)
