"""Pledges through a lender's node, each step as a bank has it: consent, evidence, permits, pledges.

    python tests/acceptance/pledges.py JOB.json       prints what became of each record, as JSON

The job: ``net``, ``bank``, ``out``, ``threads``, ``ppm``, and ``offers``: each ``subject``, ``kind``, ``issuer``,
``from``, ``to`` (months) and, where not all records of the kind are offered, their ``numbers`` or
``fingerprints``; with ``look`` nothing is pledged.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from applications import Bank, Job, open_bank, wallet_of

from taxledger.api.client import Client
from taxledger.ledger import limits
from taxledger.ledger.consent import Detail
from taxledger.ledger.disclosure import Disclosed, verify_disclosure
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.query import Query
from taxledger.ledger.records import Status
from taxledger.nodes.cli.lend.consenting import sign_consent
from taxledger.nodes.enterprise.terms import Wish

_HOUR_MS = 3_600_000


def show(bank: Bank, offer: Job) -> Disclosed:
    """The evidence of what is offered, verified, under a new consent that allows pledging."""
    kind = KINDS[offer["kind"]]
    with wallet_of(bank, offer["subject"]) as wallet:
        details = [Detail(kind=kind, from_period=offer["from"], to_period=offer["to"], fields=None)]
        wish = Wish(
            recipient=bank.number, custodians={offer["issuer"]: None}, details=details, mode="store",
            max_uses=5, days=30, retention_days=3_650, may_pledge=True,
        )  # fmt: skip
        artefact = sign_consent(wallet, bank.home, wish, yes=True)
    bank.desk.client.forward_consent(artefact.raw)
    query = Query(
        subject=offer["subject"],
        issuer=offer["issuer"],
        kinds=(kind,),
        from_period=offer["from"],
        to_period=offer["to"],
    )
    data = bank.desk.client.disclosure(query, artefact.raw)
    return verify_disclosure(
        data,
        bank.desk.trust.policy,
        query,
        recipient=bank.number,
        now_ms=time.time_ns() // 1_000_000,
        age_ms_max=bank.desk.settings.age_ms_max,
    )


def chosen(shown: Disclosed, offer: Job) -> list[dict[str, Any]]:
    """What is offered of what was shown, ascending by key."""
    wanted, numbers = set(offer.get("fingerprints", ())), set(offer.get("numbers", ()))
    found = []
    for each in sorted(shown.answer.records, key=lambda one: one.key):
        fields: Mapping[str, Any] = each.fields or {}
        if each.fingerprint is None or (numbers and fields.get("number") not in numbers):
            continue
        if wanted and each.fingerprint.hex() not in wanted:
            continue
        found.append(
            {
                "key": each.key.hex(),
                "fingerprint": each.fingerprint.hex(),
                "status": Status(each.status).name.lower(),
                "number": fields.get("number"),
                "gross": fields.get("gross"),
            }
        )
    return found


def place(client: Client, permit: bytes | str, ppm: int) -> str:
    """``placed``, or the code of the refusal."""
    if isinstance(permit, str):
        return permit
    try:
        client.place_pledge(permit, ppm)
    except RefusedError as refusal:
        return refusal.code
    return "placed"


def permits(
    bank: Bank, pool: ThreadPoolExecutor, shown: Disclosed, records: Sequence[Job]
) -> list[bytes | str]:
    """A permit for each record, or the code of the custodian's refusal."""
    until = time.time_ns() // 1_000_000 + _HOUR_MS
    valid = [each for each in records if each["status"] == "valid"]
    found: dict[str, bytes | str] = {}
    for at in range(0, len(valid), limits.permits_max):
        part = [each["key"] for each in valid[at : at + limits.permits_max]]
        keys = [bytes.fromhex(each) for each in part]
        given = bank.desk.client.request_permits(shown.consent, shown.sequence, keys, not_after=until)
        found.update(zip(part, given, strict=True))
    rest = [each["key"] for each in records if each["key"] not in found]
    found.update(zip(rest, pool.map(lambda key: _refusal(bank, shown, key, until), rest), strict=True))
    return [found[each["key"]] for each in records]


def _refusal(bank: Bank, shown: Disclosed, key: str, until: int) -> bytes | str:
    try:
        return bank.desk.client.request_permits(
            shown.consent, shown.sequence, [bytes.fromhex(key)], not_after=until
        )[0]
    except RefusedError as refusal:
        return refusal.code


def pledge_all(job: Job) -> list[dict[str, Any]]:
    """For each offer the records, with what became of each."""
    found = []
    with open_bank(job) as bank, ThreadPoolExecutor(int(job.get("threads", 16))) as pool:
        for offer in job["offers"]:
            begin = time.perf_counter()
            shown = show(bank, offer)
            records = chosen(shown, offer)
            if offer.get("look"):
                found.append({"subject": offer["subject"], "records": records, "seconds": []})
                continue
            asked = time.perf_counter()
            given = permits(bank, pool, shown, records)
            permitted = time.perf_counter()
            became = pool.map(lambda one: place(bank.desk.client, one, int(job["ppm"])), given)
            for each, code in zip(records, became, strict=True):
                each["became"] = code
            seconds = [asked - begin, permitted - asked, time.perf_counter() - permitted]
            found.append({"subject": offer["subject"], "records": records, "seconds": seconds})
    return found


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        became = pledge_all(json.loads(Path(sys.argv[1]).read_bytes()))
    json.dump(became, sys.stdout)
