"""Many questions to the issuer's own node through the client library, each answer verified: the totals as JSON.

python tests/acceptance/ask.py HOME POLICY QUESTIONS      [[subject, first month, last month], …]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from taxledger.api.client import Client
from taxledger.ledger.answer import totals
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.schemas import KINDS
from taxledger.nodes.home import Home

_THREADS = 2


def ask_all(home: Path, policy: bytes, questions: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """For each (subject, first month, last month): totals and sizes of the verified answer."""
    access = Home(home).client()
    with (
        Client(access.url, access.key, decode_policy(policy)) as client,
        ThreadPoolExecutor(_THREADS) as pool,
    ):

        def ask(question: Sequence[str]) -> dict[str, Any]:
            subject, first, last = question
            kinds = (KINDS["vat_invoice"],)
            query = Query(subject=subject, issuer=1, kinds=kinds, from_period=first, to_period=last)
            begin = time.perf_counter()
            answer = client.verified_dossier(query)
            return {
                "totals": totals(answer),
                "records": len(answer.records),
                "file_bytes": answer.file_bytes,
                "proof_bytes": answer.proof_bytes,
                "record_bytes": answer.record_bytes,
                "complete": answer.complete(kinds[0]),
                "seconds": time.perf_counter() - begin,
            }

        return list(pool.map(ask, questions))


if __name__ == "__main__":
    given, policy_path, asked = map(Path, sys.argv[1:4])
    json.dump(ask_all(given, policy_path.read_bytes(), json.loads(asked.read_bytes())), sys.stdout)
