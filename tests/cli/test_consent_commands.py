"""An enterprise, its custodian and two banks at their command lines, on a running network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_commands import Shell

from taxledger.ledger.errors import UnavailableError
from taxledger.nodes.cli.consentgrant import parse_predicate
from taxledger.nodes.cli.disclosed import _request_key, question_of, read_artefact
from taxledger.nodes.cli.main import main
from taxledger.nodes.generated_files import write_portfolio
from taxledger.nodes.generator import Portfolio, generate

RANGE = ("--from", "2024-01", "--until", "2024-03")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="module")
def portfolio() -> Portfolio:
    return generate(7, enterprises=3, first_month="2024-01", last_month="2024-03")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, portfolio: Portfolio) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("consents")
    net = folder / "net"
    assert main(["network", "create", str(net), "--members", "tax,bank1,bank2"]) == 0
    assert main(["network", "start", str(net)]) == 0
    try:
        (folder / "sources").mkdir()
        sales, purchases, _, _ = write_portfolio(portfolio, folder / "sources")
        for file, through in ((sales, []), (purchases, ["--through", "2024-03-31"])):
            files = ["--mapping", str(file.mapping), *through, str(file.path)]
            assert main(["attest", "--home", str(net / "tax"), "--source", "csv", *files]) == 0
        yield net
    finally:
        assert main(["network", "stop", str(net)]) == 0


class Acme:
    """An enterprise of the portfolio with a registered wallet, and what its people type."""

    def __init__(self, shell: Shell, net: Path, folder: Path, code: str) -> None:
        self.shell, self.net, self.folder = shell, net, folder
        self.subject = code
        self.wallet = folder / "acme.wallet"
        shell.ok("wallet", "create", self.wallet, "--subject", code)
        register = ["subject", "register", "--home", net / "tax", "--wallet", self.wallet]
        if shell(*register).status:  # another test's wallet was here before
            shell.ok(*register, "--reason", "another test")

    def grant(self, name: str, *options: object, to: str = "bank1") -> tuple[Path, str]:
        file = self.folder / f"{name}.consent"
        said = self.shell.ok(
            *("consent", "grant", "--home", self.net / "tax", "--wallet", self.wallet, "--to", to),
            *(options or ("--kind", "vat_invoice", *RANGE, "--uses", "9")),
            *("-o", file, "--yes", "--json"),
        )
        return file, said.json["consent"]

    def change(self, action: str, consent: str, *more: object, home: str = "tax") -> Any:
        where = ("--home", self.net / home, "--wallet", self.wallet, "--consent", consent[:8])
        return self.shell.ok("consent", action, *where, *more, "--json").json

    def see(self, what: str, *more: object, home: str = "bank2") -> Any:
        where = ("--home", self.net / home, "--wallet", self.wallet)
        return self.shell.ok("consent", what, *where, *more, "--json").json

    def get(self, file: Path, *more: object, home: str = "bank1") -> Any:
        output = self.folder / "answer.disclosure"
        return self.shell(
            "evidence", "get", "--home", self.net / home, "--consent", file, *more, "-o", output, "--json"
        )


@pytest.fixture
def acme(shell: Shell, net: Path, tmp_path: Path, portfolio: Portfolio) -> Acme:
    return Acme(shell, net, tmp_path, portfolio.enterprises[0].code)


def test_from_grant_to_a_verified_file(acme: Acme, shell: Shell, net: Path, portfolio: Portfolio) -> None:
    options = ("--kind", "vat_invoice", *RANGE, "--fields", "date,net", "--uses", "2")
    file, consent = acme.grant("b1", *options)
    said = acme.get(file)
    assert said.status == 0, said
    assert (said.json["verified"], said.json["disclosure"]["use"]) == (True, 1)
    rows = {row for row in portfolio.invoices if row.enterprise == acme.subject}
    assert said.json["records"] == len(rows)
    answer = acme.folder / "answer.disclosure"
    question = ("--subject", acme.subject, "--kind", "vat_invoice", "--from", "2024-01", "--to", "2024-03")
    check = ("evidence", "verify", answer, "--policy", net / "policy.txt", *question)
    assert shell.ok(*check, "--recipient", "2", "--json").json["disclosure"]["consent"] == consent
    assert "剩余" in shell.ok(*check, "--recipient", "bank1", "--home", net / "tax").out
    refused = shell(*check, "--recipient", "3", "--json")
    assert (refused.status, refused.json["code"]) == (1, "consent_recipient_mismatch")
    assert "接收机构不是本机构" in shell(*check, "--recipient", "3").out
    assert shell(*check).status == 2
    shown = shell.ok("evidence", "show", answer, "--json").json
    assert (shown["disclosure"]["consent"], shown["verified"]) == (consent, False)
    assert set(shown["records"][0]["fields"]) == {"date", "net"}
    assert consent in shell.ok("evidence", "show", answer).out
    assert not list(acme.folder.glob(".*.request"))


def test_what_the_enterprise_sees_is_what_happened(acme: Acme, shell: Shell) -> None:
    first, one = acme.grant("one")
    _, two = acme.grant("two", to="bank2")
    before = acme.get(first).json["disclosure"]["use"]
    assert acme.get(first).json["disclosure"]["use"] == before + 1
    listed = acme.see("list")
    assert [each["consent"] for each in listed["consents"]] == [one, two]
    assert [each["recipient_name"] for each in listed["consents"]] == ["bank1", "bank2"]
    assert [each["uses"] for each in listed["consents"]] == [2, 0]
    assert all(each["in_wallet"] for each in listed["consents"])
    assert listed == acme.see("list", home="tax") | {"age_ms": listed["age_ms"], "height": listed["height"]}
    uses = acme.see("uses", "--consent", one)["uses"]
    assert [(use["sequence"], use["state"]) for use in uses] == [(1, "complete"), (2, "complete")]
    assert len(acme.see("uses")["uses"]) == 2
    where = ("--home", acme.net / "bank2", "--wallet", acme.wallet)
    said = shell.ok("consent", "list", *where).out
    assert "verified: all 2 consents to all 3 members" in said
    assert "无遗漏" in said
    assert "已全部披露" in shell.ok("consent", "uses", *where).out
    receipt = acme.folder / "receipt.json"
    shell.ok("consent", "receipt", *where, "--consent", one, "-o", receipt)
    document = json.loads(receipt.read_bytes())
    assert (document["record_id"], len(document["uses"])) == (one, 2)
    assert "数据共享授权告知书" in document["pii_processing"]["privacy_notice"]["text"]
    assert "数据共享授权告知书" in shell.ok("consent", "show", first).out


def test_pause_resume_supersede_and_both_ways_to_revoke(acme: Acme) -> None:
    file, consent = acme.grant("b1")
    assert acme.change("pause", consent)["status"] == "paused"
    said = acme.get(file)
    assert said.status == 1
    assert "consent_paused" in said.err
    assert "授权已暂停" in said.err
    assert acme.change("resume", consent)["status"] == "active"
    assert acme.get(file).status == 0
    other = acme.folder / "other.consent"
    terms = ("--to", "bank1", "--kind", "vat_invoice", *RANGE, "--yes", "-o", other)
    second = acme.change("supersede", consent, *terms)["consent"]
    assert "consent_superseded" in acme.get(file).err
    assert acme.change("revoke", second, "--by-preimage", home="bank2")["status"] == "revoked"
    assert "consent_revoked" in acme.get(other).err
    third, consent = acme.grant("third")
    assert acme.change("revoke", consent)["status"] == "revoked"
    assert "consent_revoked" in acme.get(third).err
    assert "consent_recipient_mismatch" in acme.get(third, home="bank2").err
    states = [event["event_state"] for event in acme.see_receipt(consent)["event"]]
    assert states == ["given", "registered", "withdrawn"]


def _see_receipt(self: Acme, consent: str) -> Any:
    where = ("--home", self.net / "bank1", "--wallet", self.wallet, "--consent", consent)
    return self.shell.ok("consent", "receipt", *where).json


Acme.see_receipt = _see_receipt  # type: ignore[attr-defined]


def test_a_lost_key_and_a_lost_wallet(acme: Acme, shell: Shell, net: Path) -> None:
    _, consent = acme.grant("b1")
    shell.ok("wallet", "renew", acme.wallet)
    where = ("--home", net / "tax", "--wallet", acme.wallet)
    said = shell("consent", "pause", *where, "--consent", consent)
    assert "consent_key_unknown" in said.err
    said = shell("subject", "register", *where)
    assert (said.status, "subject_key_exists" in said.err) == (1, True)
    shell.ok("subject", "register", *where, "--reason", "the phone was stolen")
    assert acme.change("pause", consent)["status"] == "paused"
    assert [each["consent"] for each in acme.see("list")["consents"]] == [consent]
    acme.wallet.unlink()
    again = Acme(shell, net, acme.folder, acme.subject)
    recovered = again.see("recover", home="tax")
    assert consent in recovered["recovered"]
    assert again.see("list")["consents"] == []  # the complete list was the lost secret's
    assert again.change("resume", consent)["status"] == "active"
    where = ("--home", net / "bank2", "--wallet", again.wallet, "--consent", consent)
    said = shell("consent", "revoke", *where, "--by-preimage")
    assert (said.status, "preimage_invalid" in said.err) == (1, True)
    assert again.change("revoke", consent)["status"] == "revoked"


def test_what_is_stored_is_listed_and_destroyed(acme: Acme, shell: Shell, net: Path) -> None:
    terms = ("--kind", "vat_invoice", *RANGE, "--mode", "store", "--retention", "30")
    file, consent = acme.grant("store", *terms)
    assert acme.get(file).status == 0
    home = ("--home", net / "bank1")
    kept = [
        each for each in shell.ok("disclosure", "list", *home, "--json").json if each["consent"] == consent
    ]
    assert [each["sequence"] for each in kept] == [1]
    copy = acme.folder / "copy.disclosure"
    shell.ok("disclosure", "get", *home, "--consent", consent, "-o", copy)
    assert copy.read_bytes() == (acme.folder / "answer.disclosure").read_bytes()
    shell.ok("disclosure", "discard", *home, "--consent", consent, "--reason", "repaid")
    said = shell("disclosure", "get", *home, "--consent", consent, "-o", copy)
    assert (said.status, "disclosure_unknown" in said.err) == (1, True)
    assert consent not in shell.ok("disclosure", "list", *home).out


def test_wrong_input_is_said(acme: Acme, shell: Shell, net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ("--home", net / "tax", "--wallet", acme.wallet)
    out = ("-o", acme.folder / "x", "--yes")
    kind = ("--kind", "vat_invoice")
    for arguments in (
        ("consent", "grant", *where, "--to", "bank1", *out),
        ("consent", "grant", *where, "--to", "bank1", *kind, *out),
        ("consent", "grant", *where, "--to", "bank9", *kind, *RANGE, *out),
        ("consent", "grant", *where, "--to", "bank1", *kind, *RANGE, "--mode", "keep", *out),
        ("consent", "grant", *where, "--to", "bank1", *kind, *RANGE, "--mode", "store", *out),
        ("consent", "grant", *where, "--to", "bank1", "--predicate", "=5", *out),
        ("consent", "grant", *where, "--to", "tax", *kind, *RANGE, *out),
        ("consent", "grant", *where, "--to", "bank1", *kind, *RANGE, "--uses", "0", *out),
        ("consent", "grant", *where, "--to", "bank1", *kind, *RANGE, "--days", "0", *out),
        ("consent", "grant", *where, "--to", "bank1", *kind, *RANGE, "--days", "9" * 16, *out),
        ("consent", "grant", *where, "--to", "bank1", *kind, "--from", "2024-03", "--until", "2024-01", *out),
        ("consent", "grant", *where, "--to", "bank1", *kind, *RANGE, *out[:2]),  # no --yes, and no terminal
        ("consent", "pause", *where, "--consent", "00000000"),
        ("consent", "pause", *where, "--consent", "zz"),
        ("subject", "register", "--home", net / "tax"),
        ("subject", "register", "--home", net / "tax", "--subject", acme.subject, "--key", "zz"),
        ("subject", "register", "--home", net / "tax", "--subject", "cumcm:E9", "--key", "00" * 32),
        ("evidence", "get", "--home", net / "bank1", *out[:2]),
        ("wallet", "show", acme.folder / "none"),
        ("wallet", "create", acme.wallet, "--subject", acme.subject),
    ):
        said = shell(*arguments)
        assert said.status == 2, (arguments, said)
    assert shell.ok("wallet", "show", acme.wallet, "--json").json["consents"] == []
    said = shell("subject", "register", "--home", net / "bank1", "--wallet", acme.wallet)
    assert (said.status, "not_custodian" in said.err) == (1, True)
    refused = ("--kind", "vat_invoice", *RANGE, "--fields", "salary")
    said = shell("consent", "grant", *where, "--to", "bank1", *refused, *out)
    assert (said.status, "consent_fields_exceeded" in said.err) == (1, True)
    assert not (acme.folder / "x").exists()
    sealed = acme.folder / "sealed.wallet"
    monkeypatch.setenv("TAXLEDGER_WALLET_PASSPHRASE", "one")
    shell.ok("wallet", "create", sealed, "--subject", acme.subject)
    assert shell.ok("wallet", "show", sealed, "--json").json["sealed"] is True
    monkeypatch.setenv("TAXLEDGER_WALLET_PASSPHRASE", "two")
    said = shell("consent", "list", "--home", net / "bank1", "--wallet", sealed)
    assert (said.status, "does not open" in said.err) == (2, True)
    (acme.folder / "pass").write_text("one\n")
    shell.ok("wallet", "renew", sealed, "--passphrase-file", acme.folder / "pass")
    monkeypatch.delenv("TAXLEDGER_WALLET_PASSPHRASE")
    said = shell("consent", "list", "--home", net / "bank1", "--wallet", sealed)
    assert (said.status, "give it" in said.err) == (2, True)


def test_nothing_is_signed_that_would_be_refused(acme: Acme, shell: Shell, net: Path) -> None:
    out = ("--wallet", acme.wallet, "--yes", "-o", acme.folder / "x")
    kind = ("--to", "bank1", "--kind", "vat_invoice", *RANGE)
    for home, terms, code in (
        ("tax", (*kind, "--fields", "salary"), "consent_fields_exceeded"),
        ("tax", ("--to", "bank1", "--predicate", "rich"), "predicate_unknown"),
        ("tax", ("--to", "bank1", "--predicate", "grade_at_least=Z"), "predicate_argument_invalid"),
        ("bank2", kind, "not_custodian"),
    ):
        said = shell("consent", "grant", "--home", net / home, *terms, *out)
        assert (said.status, code in said.err, "未通过" in said.err) == (1, True, True), said
        assert "hand-in" not in said.err
    assert shell.ok("wallet", "show", acme.wallet, "--json").json["consents"] == []


def test_a_file_that_cannot_be_written_costs_no_use(acme: Acme, shell: Shell, net: Path) -> None:
    file, _ = acme.grant("b1", "--kind", "vat_invoice", *RANGE, "--uses", "1")
    nowhere = acme.folder / "nowhere" / "x"
    ask = ("evidence", "get", "--home", net / "bank1", "--consent", file, "-o")
    for output in (nowhere, acme.folder):
        said = shell(*ask, output)
        assert (said.status, f"{output}: cannot write it" in said.err) == (1, True), said
    again = ("consent", "grant", "--home", net / "tax", "--wallet", acme.wallet, "--to", "bank1", "--yes")
    assert shell(*again, "--kind", "vat_invoice", *RANGE, "-o", nowhere).status == 1
    assert [each["uses"] for each in acme.see("list")["consents"]] == [0]
    assert not nowhere.parent.exists()
    assert acme.get(file).status == 0


def test_what_names_an_enterprise_is_readable_by_its_owner_alone(acme: Acme, shell: Shell, net: Path) -> None:
    file, consent = acme.grant("b1")
    assert acme.get(file).status == 0
    where = ("--home", net / "bank2", "--wallet", acme.wallet, "--consent", consent)
    shell.ok("consent", "receipt", *where, "-o", acme.folder / "receipt.json")
    evidence = acme.folder / "own.evidence"
    question = ("--subject", acme.subject, "--kind", "vat_invoice", "--from", "2024-01", "--to", "2024-03")
    shell.ok("evidence", "get", "--home", net / "tax", *question, "-o", evidence)
    for path in acme.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_handed_in_again_says_what_the_consent_is_now(acme: Acme, shell: Shell, net: Path) -> None:
    _, consent = acme.grant("b1")
    acme.change("revoke", consent)
    again = ("--consent", consent, "-o", acme.folder / "again.consent")
    said = shell.ok("consent", "hand-in", "--home", net / "tax", "--wallet", acme.wallet, *again)
    assert f"{consent} is revoked" in said.out
    assert "已撤回" in said.out
    assert "active" not in said.out


def test_the_list_says_what_else_the_wallet_holds(
    acme: Acme, shell: Shell, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, one = acme.grant("b1")
    assert (acme.see("list")["not_listed"], "more in this wallet" in _list_text(acme)) == ([], False)
    monkeypatch.setattr("taxledger.api.client.Client.grant_consent", _unreachable)
    where = ("--home", net / "tax", "--wallet", acme.wallet, "--yes", "-o", acme.folder / "x")
    kind = ("--to", "bank1", "--kind", "vat_invoice", *RANGE)
    assert "hand-in" in shell("consent", "grant", *where, *kind).err
    listed = acme.see("list")
    assert ([each["consent"] for each in listed["consents"]], len(listed["not_listed"])) == ([one], 1)
    assert "1 more in this wallet" in _list_text(acme)
    assert "本钱包另有 1 项" in _list_text(acme)


def _unreachable(*_arguments: object) -> Any:
    raise UnavailableError("the network is gone")


def _list_text(acme: Acme) -> str:
    return acme.shell.ok("consent", "list", "--home", acme.net / "bank2", "--wallet", acme.wallet).out


def test_a_consent_of_another_ledger_is_not_asked_under(acme: Acme, shell: Shell, net: Path) -> None:
    file, _ = acme.grant("b1")
    other = acme.folder / "other"
    shell.ok("network", "create", other, "--members", "tax,bank1,bank2")
    said = shell("evidence", "get", "--home", other / "bank1", "--consent", file, "-o", acme.folder / "x")
    assert (said.status, "consent_chain_mismatch" in said.err, "另一账本" in said.err) == (1, True, True)


def test_a_custodian_that_lost_its_artefacts_gets_them_back(acme: Acme, shell: Shell, net: Path) -> None:
    file, consent = acme.grant("b1")
    lose_custody(net)
    assert "consent_unknown" in acme.get(file).err
    shell.ok("subject", "register", "--home", net / "tax", "--wallet", acme.wallet)
    again = (
        "--home",
        net / "tax",
        "--wallet",
        acme.wallet,
        "--consent",
        consent,
        "-o",
        acme.folder / "again",
    )
    said = shell.ok("consent", "hand-in", *again).out
    assert f"{consent} was on the ledger already, and is active" in said
    assert "当前有效" in said
    assert (acme.folder / "again").read_bytes() == file.read_bytes()
    assert acme.get(file).status == 0


def lose_custody(net: Path) -> None:
    """The custodian's store of artefacts is gone, and a new one made."""
    assert main(["network", "stop", str(net), "--member", "tax"]) == 0
    for path in (net / "tax").glob("custody.sqlite*"):
        path.unlink()
    assert main(["network", "start", str(net)]) == 0


def test_another_file_than_an_artefact_is_named(acme: Acme, shell: Shell, net: Path) -> None:
    other = acme.folder / "rows.csv"
    other.write_text("a,b\n")
    for command in (
        ("consent", "show", other),
        ("evidence", "get", "--home", net / "bank1", "--consent", other, "-o", acme.folder / "x"),
    ):
        said = shell(*command)
        assert (said.status, f"{other}: expected a consent's artefact" in said.err) == (2, True), said


def test_a_request_that_was_cut_off_goes_on_as_the_same(acme: Acme) -> None:
    file, _ = acme.grant("once", "--kind", "vat_invoice", *RANGE, "--uses", "1")
    assert acme.get(file).status == 0
    output = acme.folder / "answer.disclosure"
    artefact = read_artefact(file)
    query = question_of(artefact, subject=None, kinds=None, from_period=None, to_period=None, issuer=None)
    pending = output.with_name(f".{output.name}.request")
    key = _request_key(pending, query, artefact)
    assert _request_key(pending, query, artefact) == key
    assert os.stat(pending).st_mode & 0o777 == 0o600
    narrower = question_of(
        artefact, subject=None, kinds=None, from_period="2024-02", to_period=None, issuer=None
    )
    assert _request_key(pending, narrower, artefact) != key
    said = acme.get(file)  # another request, and there was one use
    assert (said.status, "consent_used_up" in said.err) == (1, True)
    assert not pending.exists()


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("no_open_arrears", None),
        ("grade_at_least=B", "B"),
        ("net_sales_at_least=500000", 500_000),
        ("net_sales_at_least=5000.00", 500_000),
        ("net_sales_at_least=-1.05", -105),
        ("x=1.5", "1.5"),
    ],
)
def test_arguments_of_predicates(text: str, argument: int | str | None) -> None:
    assert parse_predicate(text).argument == argument


def test_every_command_explains_itself(shell: Shell) -> None:
    for group, commands in {
        "wallet": ("create", "show", "renew"),
        "subject": ("register",),
        "consent": (
            *("grant", "supersede", "hand-in", "pause", "resume", "revoke", "recover"),
            *("list", "uses", "receipt", "show"),
        ),
        "disclosure": ("list", "get", "discard"),
        "vault": ("status", "rotate-key", "rotate-data-key"),
        "evidence": ("get", "verify", "show"),
    }.items():
        for command in commands:
            said = shell.ok(group, command, "--help").out
            assert f"Example: taxledger {group} {command}" in said, (group, command)
