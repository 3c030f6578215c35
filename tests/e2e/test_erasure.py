"""Erasure on a real network: by command at the custodian, on the ledger, and by notice at a bank that had stored it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from sharing import Enterprise, answered, attest, invoices

from network import RealNetwork, real_network, until
from taxledger.ledger import canonical
from taxledger.ledger.consentstate import data_erased_digest
from taxledger.nodes.recipient.store import RECEIVED
from taxledger.nodes.sealed.homekeys import open_key_provider
from taxledger.nodes.sealed.store import sealed_store

RECORDS = 12
ERASE = (
    "--kind",
    "vat_invoice",
    "--from",
    "2025-01",
    "--to",
    "2025-06",
    "--reason",
    "asked by the enterprise",
)


def erase(network: RealNetwork, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "taxledger.nodes.cli.main", "erase"),
            *("--home", str(network.homes["tax"].path), "--subject", "cumcm:E1", *ERASE, *more),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def erased(network: RealNetwork) -> dict[str, Any]:
    done = erase(network, "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def stored(network: RealNetwork, bank: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answered(network.request("GET", bank, "/v1/disclosures"))["disclosures"]
    return found


def own(network: RealNetwork, giver: Enterprise) -> Any:
    """The custodian's own dossier of the subject."""
    query = giver.query()
    body = {
        "subject": query.subject, "issuer": 1, "kinds": list(query.kinds), "from": query.from_period,
        "to": query.to_period,
    }  # fmt: skip
    return network.request("POST", "tax", "/v1/dossiers", json=body)


def test_erase(tmp_path: Path) -> None:
    with real_network(tmp_path / "net", tag_keys=False) as network:
        path = invoices(tmp_path / "e1.csv", "E1", RECORDS)
        attest(network, path)
        giver = Enterprise(network, "cumcm:E1")
        giver.register()
        artefact = giver.grant("bank1", mode="store", retention_days=30, max_uses=3)
        viewed = giver.grant("bank2")
        assert giver.ask("bank1", artefact).status_code == 200
        assert giver.ask("bank2", viewed).status_code == 200
        assert [each["records"] for each in stored(network, "bank1")] == [RECORDS]
        giver.settled_uses()

        first = erased(network)
        assert first["records"] == RECORDS // 2
        assert len(first["transactions"]) == 1
        until(lambda: all(each["confirmed"] for each in erased(network)["notices"]), "both banks confirmed")
        assert len(erased(network)["notices"]) == 2
        assert stored(network, "bank1") == []
        _data_erased_is_opened(network, artefact.id(1))

        said = giver.verify("bank1", giver.ask("bank1", artefact).content)
        assert said.answer.erased == RECORDS // 2
        assert sum(each.values is not None for each in said.answer.records) == RECORDS // 2
        again = erase(network)
        assert f"{RECORDS // 2} records erased" in again.stdout
        assert "成员已销毁所存数据" in again.stdout
        rejected = subprocess.run(
            [
                *(sys.executable, "-m", "taxledger.nodes.cli.main", "attest"),
                *("--home", str(network.homes["tax"].path), "--source", "cumcm", str(path)),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "erased" in rejected.stdout + rejected.stderr
        own_dossier = own(network, giver)
        assert own_dossier.status_code == 200, "its own desk answers too"


def _data_erased_is_opened(network: RealNetwork, consent: bytes) -> None:
    """The bank's node has said on the ledger what its store says it destroyed."""
    home = network.homes["bank1"]
    store = sealed_store(home.path / "received.sqlite", RECEIVED, open_key_provider(home))
    ((found, sequence, sealed),) = store.database.all("SELECT consent, sequence, sealed FROM destroyed")
    reason, salt, count, _ms = canonical.decode(store.open(b"destroyed", found, sequence, sealed))
    store.close()
    assert (found, reason, count) == (consent, "notice", RECORDS)
    digest = data_erased_digest(salt, found, sequence, reason)
    key = b"\x0c" + home.config.number.to_bytes(2, "big") + digest[:16]
    response = network.request("GET", "bank2", f"/v1/state/{key.hex()}")
    assert response.status_code == 200
    ((_key, value),) = answered(response)["entries"][0]["pairs"]
    assert canonical.decode(base64.b64decode(value))[:2] == [digest, RECORDS]
