"""Fingerprints of the sales of many subjects, from verified answers of the issuer's own node: whose meet.

    python tests/acceptance/fingerprints.py HOME POLICY SUBJECTS.json FROM TO

Prints {"sales": by subject, "pairs": [[subject, subject, fingerprints]], "inside": by subject}: how many different
fingerprints two subjects share, and how many records of one subject have the fingerprint of another one of it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

from taxledger.api.client import Client
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.nodes.home import Home


def compare(client: Client, subjects: list[str], first: str, last: str) -> dict[str, Any]:
    sales: dict[str, int] = {}
    inside: Counter[str] = Counter()
    owners: dict[bytes, set[str]] = defaultdict(set)
    for subject in subjects:
        kinds = (KINDS["vat_invoice"],)
        query = Query(subject=subject, issuer=1, kinds=kinds, from_period=first, to_period=last)
        marks = [each.fingerprint for each in client.verified_dossier(query).records if each.fingerprint]
        sales[subject] = len(marks)
        if repeats := len(marks) - len(set(marks)):
            inside[subject] = repeats
        for each in marks:
            owners[each].add(subject)
    shared = Counter(pair for each in owners.values() for pair in combinations(sorted(each), 2))
    return {
        "sales": sales,
        "pairs": [[*pair, count] for pair, count in sorted(shared.items())],
        "inside": dict(inside),
    }


if __name__ == "__main__":
    access, policy = Home(Path(sys.argv[1])).client(), decode_policy(Path(sys.argv[2]).read_bytes())
    with Client(access.url, access.key, policy) as opened:
        found = compare(opened, json.loads(Path(sys.argv[3]).read_bytes()), sys.argv[4], sys.argv[5])
    json.dump(found, sys.stdout)
