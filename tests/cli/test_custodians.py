"""Several members that issue, each its own kinds: one artefact, one observer that asks all of them."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_commands import Shell

from taxledger.nodes.cli.main import main
from taxledger.nodes.local.control import network_home

SUBJECT = "cumcm:E1"
PROCUREMENT, PLATFORM = 4, 5
RANGE = ("--from", "2025-01", "--until", "2025-12")
AWARDS = """
kind = "procurement_award"
[file]
encoding = "utf-8"
[forms]
dates = ["YYYY-M-D"]
[subject]
column = "supplier"
[columns]
number = "number"
awarded = "awarded"
amount = "amount"
[constants]
register = "city"
currency = "CNY"
"""
INVOICES = """
kind = "vat_invoice"
[file]
encoding = "utf-8"
[forms]
dates = ["YYYY-M-D"]
[subject]
column = "seller"
[columns]
number = "number"
date = "date"
net = "net"
tax = "tax"
gross = "gross"
[constants]
direction = "sale"
currency = "CNY"
"""


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def table(folder: Path, name: str, mapping: str, text: str) -> list[str]:
    (folder / f"{name}.toml").write_text(mapping)
    (folder / f"{name}.csv").write_text(text)
    return ["--source", "csv", "--mapping", str(folder / f"{name}.toml"), str(folder / f"{name}.csv")]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tax office and procurement office issue; the bank that asks is an observer, as a platform is."""
    folder = tmp_path_factory.mktemp("custodians")
    net = folder / "net"
    assert main([
        "network", "create", str(net), "--members", "tax,bank1,bank2",
        "--observers", "procurement,platform",
        "--issues", "tax=vat_invoice,tax_filing", "--issues", "procurement=procurement_award",
    ]) == 0  # fmt: skip
    assert main(["network", "start", str(net)]) == 0
    try:
        awards = (
            f"number,supplier,awarded,amount\nA1,{SUBJECT},2025-03-01,900.00\nA2,{SUBJECT},2025-04-01,10\n"
        )
        sales = f"number,seller,date,net,tax,gross\n12345678901234567890,{SUBJECT},2025-03-01,100,13,113\n"
        for member, files in (
            ("procurement", table(folder, "awards", AWARDS, awards)),
            ("tax", table(folder, "sales", INVOICES, sales)),
        ):
            assert main(["attest", "--home", str(net / member), *files]) == 0
        yield net
    finally:
        assert main(["network", "stop", str(net)]) == 0


@pytest.fixture
def wallet(shell: Shell, net: Path, tmp_path: Path) -> Path:
    wallet = tmp_path / "e1.wallet"
    shell.ok("wallet", "create", wallet, "--subject", SUBJECT)
    for member in ("tax", "procurement"):
        register = ["subject", "register", "--home", net / member, "--wallet", wallet]
        if shell(*register).status:
            shell.ok(*register, "--reason", "another test")
    return wallet


def grant(shell: Shell, net: Path, wallet: Path, output: Path, *options: object, home: str = "tax") -> Any:
    kinds = () if "--kind" in options else ("--kind", "vat_invoice", "--kind", "procurement_award")
    both = ("--custodian", "tax", "--custodian", "procurement")
    return shell(
        *("consent", "grant", "--home", net / home, "--wallet", wallet, "--to", "platform", *both),
        *(*kinds, *RANGE, "--uses", "9", *options, "-o", output, "--yes", "--json"),
    )


def ask(shell: Shell, net: Path, artefact: Path, output: Path, *options: object) -> Any:
    where = ("--home", net / "platform", "--consent", artefact)
    return shell("evidence", "get", *where, *options, "-o", output, "--json")


def test_one_artefact_opens_both_custodians(shell: Shell, net: Path, wallet: Path, tmp_path: Path) -> None:
    artefact, output = tmp_path / "e1.consent", tmp_path / "e1.disclosure"
    granted = grant(shell, net, wallet, artefact).json
    assert [each["status"] for each in granted["receipts"]] == ["active"]
    (pending,) = granted["pending"]
    assert pending["member"] == PROCUREMENT
    refused = ask(shell, net, artefact, output, "--issuer", PROCUREMENT)
    assert (refused.status, "consent_unknown" in refused.err) == (1, True)
    again = ("--wallet", wallet, "--consent", pending["consent"], "-o", artefact, "--json")
    handed = shell.ok("consent", "hand-in", "--home", net / "procurement", *again).json
    assert (handed["consent"], handed["status"]) == (pending["consent"], "active")
    for issuer, kind, records in ((1, "vat_invoice", 1), (PROCUREMENT, "procurement_award", 2)):
        said = ask(shell, net, artefact, output, "--issuer", issuer).json
        assert (said["verified"], said["records"], said["disclosure"]["custodian"]) == (True, records, issuer)
        question = ("--subject", SUBJECT, "--kind", kind, "--from", "2025-01", "--to", "2025-12")
        who = ("--recipient", PLATFORM, "--issuer", issuer, "--policy", net / "policy.txt")
        assert shell.ok("evidence", "verify", output, *question, *who, "--json").json["records"] == records
    # What the other one issues is not to be had here.
    assert ask(shell, net, artefact, output, "--issuer", 1, "--kind", "procurement_award").status == 1
    listed = shell.ok("consent", "list", "--home", net / "bank1", "--wallet", wallet, "--json").json
    mine = [each for each in listed["consents"] if each["in_wallet"]]
    assert sorted((each["custodian"], each["uses"]) for each in mine) == [(1, 1), (PROCUREMENT, 1)]
    change = ("--home", net / "procurement", "--wallet", wallet, "--consent", pending["consent"], "--json")
    assert shell.ok("consent", "revoke", *change).json["status"] == "revoked"
    assert "consent_revoked" in ask(shell, net, artefact, output, "--issuer", PROCUREMENT).err
    assert ask(shell, net, artefact, output).status == 0


def test_the_recipient_hands_it_to_all_of_them(shell: Shell, net: Path, wallet: Path, tmp_path: Path) -> None:
    artefact = tmp_path / "e1.consent"
    shell.ok("network", "stop", net, "--member", "procurement")
    try:
        said = grant(shell, net, wallet, artefact, home="platform")
    finally:
        shell.ok("network", "start", net, "--member", "procurement")
    assert said.status == 1
    (receipt,), (pending,) = said.json["receipts"], said.json["pending"]
    assert (receipt["status"], pending["member"], pending["code"]) == ("active", PROCUREMENT, "unavailable")
    for _ in range(2):  # the same again is the same
        again = ("--wallet", wallet, "--consent", receipt["consent"], "-o", artefact, "--json")
        both = shell.ok("consent", "hand-in", "--home", net / "platform", *again).json["receipts"]
        assert [each["consent"] for each in both] == [receipt["consent"], pending["consent"]]
        assert both[0]["transaction"] == receipt["transaction"]
    for issuer, records in ((1, 1), (PROCUREMENT, 2)):
        said = ask(shell, net, artefact, tmp_path / "e1.disclosure", "--issuer", issuer)
        assert said.json["records"] == records


def test_kinds_without_issuer_are_refused_before_signing(
    shell: Shell, net: Path, wallet: Path, tmp_path: Path
) -> None:
    artefact = tmp_path / "e1.consent"
    said = grant(shell, net, wallet, artefact, "--kind", "utility_usage", "--kind", "vat_invoice")
    assert (said.status, "procurement issues none" in said.err) == (1, True)
    more = ("--kind", "utility_usage", "--kind", "vat_invoice", "--kind", "procurement_award")
    said = grant(shell, net, wallet, artefact, *more)
    assert (said.status, "no custodian named issues records of utility_usage" in said.err) == (1, True)
    assert "bank1" in grant(shell, net, wallet, artefact, "--custodian", "bank1").err
    assert not artefact.exists()


def test_own_home_without_a_consent(shell: Shell, net: Path, tmp_path: Path) -> None:
    question = ("--subject", SUBJECT, "--kind", "procurement_award", "--from", "2025-01", "--to", "2025-12")
    said = shell.ok(
        "evidence", "get", "--home", net / "procurement", *question, "-o", tmp_path / "a", "--json"
    )
    assert said.json["records"] == 2


def test_issues_are_checked(shell: Shell, tmp_path: Path) -> None:
    def create(*issues: str) -> Any:
        options = [word for each in issues for word in ("--issues", each)]
        return shell("network", "create", tmp_path / "net", "--members", "tax,bank", *options)

    assert "expected an issuer out of tax, bank" in create("taxes=vat_invoice").err
    assert "expected a kind, one of" in create("tax=vat_invoices").err
    assert "NAME=kind,kind" in create("tax").err
    assert "each name once" in create("tax=vat_invoice", "tax=tax_filing").err
    assert not (tmp_path / "net").exists()


def test_an_observer_submits(net: Path) -> None:
    """A transaction of its own: a platform writes through its own node."""
    from taxledger.ledger.consentoperations import ConsentRevoke
    from taxledger.ledger.crypto import Signer
    from taxledger.ledger.genesis import chain_id
    from taxledger.ledger.operations import encode_consent
    from taxledger.ledger.transaction import sign_transaction

    home = network_home(net, "platform")
    now_s = int(time.time())
    raw = sign_transaction(
        Signer(home.key("transaction")),
        member=home.config.number,
        chain_id=chain_id(home.genesis()),
        iat_s=now_s,
        exp_s=now_s + 600,
        payload=encode_consent(ConsentRevoke(consent=bytes(16), preimage=bytes(32))),
    )
    client = home.client()
    said = httpx.post(
        f"{client.url}/v1/transactions?wait=certified",
        json={"transaction": base64.b64encode(raw).decode()},
        headers={"Authorization": f"Bearer {client.key}"},
        timeout=30,
    ).json()
    assert (said["state"], bool(said["code"])) == ("certified", True)  # logged, and refused by the rules


def test_a_bank_takes_a_record_as_security(shell: Shell, net: Path, wallet: Path, tmp_path: Path) -> None:
    artefact, shown, permits = tmp_path / "e1.consent", tmp_path / "e1.disclosure", tmp_path / "e1.permits"
    grant(shell, net, wallet, artefact, "--may-pledge")
    assert ask(shell, net, artefact, shown).status == 0
    home = ("--home", net / "platform")
    assert (
        shell.ok("pledge", "permit", *home, "--disclosure", shown, "-o", permits, "--json").json["permits"]
        == 1
    )
    placed = shell.ok("pledge", "place", *home, permits, "--ppm", 600_000, "--json").json
    assert (placed["placed"], placed["refused"]) == (1, 0)
    (made,) = placed["pledges"]
    again = shell.ok("pledge", "place", *home, permits, "--ppm", 600_000, "--json").json["pledges"][0]
    assert again == made
    more = shell("pledge", "place", *home, permits, "--ppm", 400_001, "--json")
    assert (more.status, more.json["pledges"][0]["code"]) == (1, "pledge_exceeds")
    assert "超过记录全额" in shell("pledge", "place", *home, permits, "--ppm", 400_001).err
    until = ("--until", "2099-01-01T00:00:00Z")
    held = shell.ok("pledge", "place", *home, permits, "--ppm", 400_000, *until, "--json").json["pledges"][0]
    found = shell.ok("pledge", "show", *home, made["pledge"], "--json").json["records"][0]
    assert (found["pledged_ppm"], len(found["pledges"])) == (1_000_000, 2)
    assert "no end" in shell.ok("pledge", "show", *home, "--permits", permits).out
    proof = tmp_path / "e1.pledges"
    shell.ok("pledge", "prove", "--home", net / "bank1", "--permits", permits, "-o", proof)
    check = ("pledge", "verify", proof, "--policy", net / "policy.txt", "--permits", permits)
    assert shell.ok(*check, "--json").json["records"][0]["pledged_ppm"] == 1_000_000
    assert shell(*check, "--require-free").status == 1
    late = shell(*check, "--at", "2099-01-01T00:00:00Z", "--json")
    assert (late.status, late.json["code"]) == (1, "checkpoint_stale")
    other = shell("pledge", "verify", proof, "--policy", net / "policy.txt", "--fingerprint", "00" * 16)
    assert (other.status, "query_mismatch" in other.out) == (1, True)
    assert shell("pledge", "release", "--home", net / "bank1", held["pledge"]).status == 1
    assert shell.ok("pledge", "confirm", *home, held["pledge"], "--json").json["operation"] == "confirm"
    assert shell("pledge", "transfer", *home, made["pledge"], "--permits", permits).status == 1  # to itself
    for each in (made, held):
        assert "已解除" in shell.ok("pledge", "release", *home, each["pledge"]).out
    shell.ok("pledge", "prove", "--home", net / "bank1", "--permits", permits, "-o", proof)
    assert shell.ok(*check, "--require-free", "--json").json["free"] == 1


def test_without_leave_to_pledge_there_is_no_permit(
    shell: Shell, net: Path, wallet: Path, tmp_path: Path
) -> None:
    artefact, shown = tmp_path / "e1.consent", tmp_path / "e1.disclosure"
    grant(shell, net, wallet, artefact)
    assert ask(shell, net, artefact, shown).status == 0
    asked = ("pledge", "permit", "--home", net / "platform", "--disclosure", shown, "-o", tmp_path / "p")
    said = shell(*asked)
    assert (said.status, "pledge_not_consented" in said.err, "质押" in said.err) == (1, True, True)
    assert not (tmp_path / "p").exists()


def test_a_wrong_upload_is_taken_back(shell: Shell, net: Path, tmp_path: Path) -> None:
    home = ("--home", net / "procurement")
    wrong = f"number,supplier,awarded,amount\nB1,{SUBJECT},2024-03-01,1.00\nB2,{SUBJECT},2024-04-01,2\n"
    attested = shell.ok("attest", *home, *table(tmp_path, "wrong", AWARDS, wrong), "--json").json
    (number,) = attested["batches"]
    listed = shell.ok("batch", "list", *home, "--json").json["batches"]
    assert (listed[-1]["batch"], listed[-1]["kind"], listed[-1]["accepted"]) == (
        number,
        "procurement_award",
        2,
    )
    assert "wrong.csv" in shell.ok("batch", "list", *home).out
    shown = shell.ok("batch", "show", number, *home, "--json").json
    assert [(each["line"], each["state"]) for each in shown["records"]] == [(2, "attested"), (3, "attested")]
    assert "2 attested" in shell.ok("batch", "show", number, *home).out
    taken = shell.ok("batch", "revoke", number, *home, "--reason", "amounts in thousands", "--json").json
    assert (taken["state"], taken["revoked"], taken["left"]) == ("revoked", 2, {})
    twice = shell("batch", "revoke", number, *home, "--reason", "again")
    assert (twice.status, "revoked already" in twice.err) == (1, True)
    right = table(tmp_path, "right", AWARDS, wrong.replace("1.00", "1000.00").replace(",2\n", ",2000\n"))
    assert shell.ok("attest", *home, *right, "--json").json["accepted"] == 2
    assert "batch" in shell.ok("attest", *home, *right).out
    assert shell("batch", "show", 99, *home).status == 1
    assert "has no vault" in shell("batch", "list", "--home", net / "bank1").err
