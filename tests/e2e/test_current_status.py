"""Evidence from before a change is refused afterwards, and subscribers hear of the change within a block."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from custodykit import row, write_cumcm
from sharing import Enterprise, attest, invoices, now_ms

from network import RealNetwork, real_network
from taxledger.api.events import EventId
from taxledger.ledger.consent import Artefact
from taxledger.ledger.errors import VerificationError
from taxledger.ledger.records import Status
from taxledger.ledger.verify import verify_evidence

CHANGES = {
    "voided": (Status.VOIDED, ("amend", "--status", "voided")),
    "corrected": (Status.VALID, ("amend", "--set", "goods=steel")),
    "revoked": (Status.REVOKED, ("revoke",)),
    "red letter": (Status.REVERSED, ()),
}


def run(network: RealNetwork, *words: str) -> None:
    """A command of the issuer's."""
    command = [*(sys.executable, "-m", "taxledger.nodes.cli.main"), *words]
    done = subprocess.run(
        [*command, "--home", str(network.homes["tax"].path), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["height"]


def test_an_answer_from_before_a_change_is_refused_after_it(tmp_path: Path) -> None:
    with real_network(tmp_path / "net", tag_keys=False) as network:
        attest(network, invoices(tmp_path / "e1.csv", "E1", len(CHANGES)))
        giver = Enterprise(network, "cumcm:E1")
        giver.register()
        artefact = giver.grant("bank1", max_uses=20)
        for number, how in enumerate(CHANGES, start=1):
            change(network, giver, artefact, how, str(number), tmp_path)


def change(
    network: RealNetwork, giver: Enterprise, artefact: Artefact, how: str, number: str, folder: Path
) -> None:
    """One record changes: who listens hears it, and the answer from before counts no longer."""
    status, words = CHANGES[how]
    before = giver.ask("bank1", artefact)
    said = giver.verify("bank1", before.content)
    record = next(each for each in said.answer.records if (each.fields or {})["number"] == number)
    giver.settled_uses()
    heard: list[tuple[int, str]] = []
    begin = EventId.after_block(network.height("bank1"))

    def listen() -> None:
        with network.client("bank1") as subscriber:
            events = subscriber.events(begin)
            for event in events:
                heard.append((event.id.height, event.subject))
                if event.subject == record.key.hex():
                    break
            events.close()

    thread = threading.Thread(target=listen)
    thread.start()
    if words:
        run(network, *words, "--record", record.key.hex(), "--reason", "test")
    else:
        dates = {"date": f"2025/{1 + int(number)}/3", "net": "-100.0", "tax": "-13.0"}
        attest(network, write_cumcm(folder / "red.csv", [row(99, enterprise="E1", **dates)]))
    thread.join(30)
    assert not thread.is_alive(), (how, heard)
    changed = next(height for height, subject in heard if subject == record.key.hex())
    after = giver.ask("bank1", artefact)
    present = giver.verify("bank1", after.content)
    now = next(each for each in present.answer.records if each.key == record.key)
    # Within one block: the event is of the very block that wrote the record's present state.
    assert changed == now.height, how
    assert now.status is status
    assert (now.status, now.version) != (record.status, record.version)
    # Whoever has heard asks that the answer be no older than the change: the old one is refused, the new one is not.
    giver.verify("bank1", after.content, height_min=changed)
    refused(giver, before.content, height_min=changed)
    # By age alone it is refused once the limit has passed.
    refused(giver, before.content, now_ms=now_ms() + 61_000, age_ms_max=60_000)
    with network.client("tax") as own:
        data = own.dossier(giver.query())
    verify_evidence(
        data, network.policy, giver.query(), height_min=changed, now_ms=now_ms(), age_ms_max=600_000
    )
    giver.settled_uses()


def refused(giver: Enterprise, data: bytes, **changes: int) -> None:
    with pytest.raises(VerificationError) as caught:
        giver.verify("bank1", data, **changes)
    assert caught.value.code == "checkpoint_stale"
