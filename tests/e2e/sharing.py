"""Sharing on real networks, through the HTTP routes alone: what a portal, a bank and a test need."""

from __future__ import annotations

import base64
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

from custodykit import row, write_cumcm

from network import RealNetwork, until
from taxledger.ledger import canonical
from taxledger.ledger.consent import (
    Artefact,
    ConsentTerms,
    CustodianTerms,
    Detail,
    holder_of,
    revoke_preimage,
    sign_artefact,
)
from taxledger.ledger.consentstate import revoke_hash_of
from taxledger.ledger.crypto import Signer
from taxledger.ledger.disclosure import Disclosed, verify_disclosure
from taxledger.ledger.instruction import ConsentOrder, sign_instruction
from taxledger.ledger.query import Query
from taxledger.nodes.identity.tls import client_context

INVOICES = 5


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Enterprise:
    """A subject with its key and secret, and the consents it gives; everything but nonces follows from its name."""

    def __init__(self, network: RealNetwork, subject: str) -> None:
        rng = random.Random(subject)
        self.network, self.subject = network, subject
        self.key, self.secret = Signer(rng.randbytes(32)), rng.randbytes(32)
        self._orders = 0

    def register(self) -> None:
        body = {
            "subject": self.subject,
            "public_key": self.key.public_key.hex(),
            "authentication": "at the counter",
        }
        answered(self.network.request("POST", "tax", "/v1/subjects", json=body))

    def artefact(self, bank: str, **changes: Any) -> Artefact:
        """A consent for all invoices of 2025, seen three times, for an hour."""
        recipient = self.network.homes[bank].config.number
        nonce = os.urandom(32)
        preimage = revoke_preimage(self.secret, nonce, 1)
        terms = ConsentTerms(
            chain_id=self.network.chain_id,
            nonce=nonce,
            subject=self.subject,
            role="legal_representative",
            authentication="tax_portal_login",
            custodians=(
                CustodianTerms(
                    member=1, revoke_hash=revoke_hash_of(preimage), former=changes.pop("former", None)
                ),
            ),
            recipient=recipient,
            holder=holder_of(self.secret, recipient),
            purpose="credit_application",
            notice_digest=bytes(32),
            language="zh-CN",
            details=(Detail(kind=INVOICES, from_period="2025-01", to_period="2025-12", fields=None),),
            predicates=(),
            may_pledge=False,
            mode="view",
            frequency="periodic",
            max_uses=3,
            not_before=now_ms() - 60_000,
            not_after=now_ms() + 3_600_000,
            retention_days=0,
            retention_end="erase",
            onward="prohibited",
            jurisdiction="CN",
            legal_basis="consent",
            issued=now_ms(),
        )
        return sign_artefact(replace(terms, **changes), self.key)

    def grant(self, bank: str, **changes: Any) -> Artefact:
        """A consent, on the ledger."""
        artefact = self.artefact(bank, **changes)
        answered(self.try_grant(artefact.raw))
        return artefact

    def try_grant(self, artefact: bytes) -> httpx.Response:
        body = {"artefact": base64.b64encode(artefact).decode()}
        return self.network.request("POST", "tax", "/v1/consents", json=body)

    def order(self, artefact: Artefact, action: str, **changes: Any) -> httpx.Response:
        """A signed instruction, handed in."""
        self._orders += 1
        order = ConsentOrder(
            chain_id=artefact.terms.chain_id,
            consent=artefact.id(1),
            action=action,
            number=self._orders,
            issued=now_ms(),
        )
        raw = sign_instruction(replace(order, **changes), self.key).raw
        body = {"instruction": base64.b64encode(raw).decode()}
        return self.network.request("POST", "tax", "/v1/consents/instructions", json=body)

    def revoke_by_preimage(self, artefact: Artefact, at: str) -> httpx.Response:
        preimage = revoke_preimage(self.secret, artefact.terms.nonce, 1)
        body = {"consent": artefact.id(1).hex(), "preimage": preimage.hex()}
        return self.network.request("POST", at, "/v1/consents/revocations", json=body)

    def uses(self) -> list[tuple[str, int, str, int, int]]:
        """(consent, sequence, state, planned, count) of every use, as the custodian lists them."""
        body = {"subject": self.subject}
        said = answered(self.network.request("POST", "tax", "/v1/consents/list", json=body))
        return [
            (each["consent"], use["sequence"], use["state"], use["planned"], use["count"])
            for each in said["consents"]
            for use in each["uses_list"]
        ]

    def settled_uses(self) -> list[tuple[str, int, str, int, int]]:
        """``uses`` once none is open."""
        until(lambda: all(state != "open" for _, _, state, _, _ in self.uses()), "every use is closed")
        return self.uses()

    def query(self, **changes: Any) -> Query:
        arguments = {"from_period": "2025-01", "to_period": "2025-12", "kinds": (INVOICES,), **changes}
        return Query(subject=self.subject, issuer=1, **arguments)

    def ask(
        self, bank: str, artefact: Artefact | bytes, query: Query | None = None, **options: Any
    ) -> httpx.Response:
        """The bank's request for a dossier under the consent, as it is answered."""
        query = query or self.query()
        raw = artefact if isinstance(artefact, bytes) else artefact.raw
        body = {
            "subject": query.subject,
            "issuer": query.issuer,
            "kinds": list(query.kinds),
            "from": query.from_period,
            "to": query.to_period,
            "consent": base64.b64encode(raw).decode(),
        }
        return self.network.request("POST", bank, "/v1/dossiers", json=body, **options)

    def verify(self, bank: str, data: bytes, query: Query | None = None, **changes: Any) -> Disclosed:
        arguments = {"now_ms": now_ms(), "age_ms_max": 600_000, **changes}
        recipient = self.network.homes[bank].config.number
        return verify_disclosure(
            data, self.network.policy, query or self.query(), recipient=recipient, **arguments
        )


def peer(network: RealNetwork, bank: str, verb: str, message: Any) -> tuple[int, bytes]:
    """A message to the custodian's node as a bank's node would send it, by a bank that plays by no rules."""
    tls = network.homes[bank].path / "tls"
    authority = (network.homes["tax"].path / "tls" / "ca.pem").read_text()
    context = client_context(tls / "node.pem", (authority,))
    url = f"{network.homes['tax'].config.peer_url}/peer/1/{verb}"
    with httpx.Client(verify=context, timeout=30) as client:
        answer = client.post(url, content=canonical.encode(message))
    return answer.status_code, answer.content


def answered(response: httpx.Response) -> Any:
    """The body of an answer that is no problem."""
    assert response.status_code < 300, response.text
    return response.json()


def code_of(response: httpx.Response) -> str:
    """The code of an answer that is a problem."""
    assert response.status_code >= 400, response.status_code
    return str(response.json()["code"])


def attest(network: RealNetwork, path: Path, *more: str) -> None:
    """Upload CUMCM files with the command line."""
    command = [
        *(sys.executable, "-m", "taxledger.nodes.cli.main", "attest"),
        *("--home", str(network.homes["tax"].path), "--source", "cumcm", *more, str(path)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


def invoices(path: Path, enterprise: str, count: int, **changes: Any) -> Path:
    """A file of ``count`` sales of 2025."""
    rows = [
        row(n, date=f"2025/{1 + n % 12}/3", enterprise=enterprise, **changes) for n in range(1, count + 1)
    ]
    return write_cumcm(path, rows)
