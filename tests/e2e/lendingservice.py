"""The lender's service as a process of its own, at a bank of a real network, and a platform that talks to it."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sharing import Enterprise, answered, now_ms

from network import PATIENCE_S, RealNetwork
from taxledger.api.auth import create_key, load_keys, save_keys
from taxledger.ledger.pledgestate import decode_pledge_entry
from taxledger.lending.loans.contract import decode_offer, sign_acceptance
from taxledger.lending.products.catalogue import shipped_files
from taxledger.lending.questions import consent_details, questions
from taxledger.lending.settings import load_settings
from taxledger.nodes.cli.lend.keys import keys_path
from taxledger.nodes.generating import GeneratedEnterprise, write_enterprises

__all__ = ["Lender", "Platform", "attest_awards", "last_month", "self_signed"]

PRODUCT = "procurement"


def command(*arguments: object) -> str:
    """What a command of the product says; it has to work."""
    line = [sys.executable, "-m", "taxledger.nodes.cli.main", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def last_month(today: date) -> str:
    """The month before: what an issuer has attested through by now."""
    at = today.year * 12 + today.month - 2
    return f"{at // 12:04}-{at % 12 + 1:02}"


def attest_awards(network: RealNetwork, made: Sequence[GeneratedEnterprise], folder: Path) -> None:
    """Attest the awards of made-up enterprises, by the tax office, which issues everything here."""
    folder.mkdir()
    file = next(each for each in write_enterprises(made, folder) if each.kind == "procurement_award")
    home = network.homes["tax"].path
    through = ("--through", file.through) if file.through else ()
    command("attest", "--home", home, "--source", "csv", "--mapping", file.mapping, *through, file.path)


class Lender:
    """A bank's service: started, killed, started again."""

    def __init__(self, network: RealNetwork, member: str = "bank1") -> None:
        self.network = network
        self.home = network.homes[member].path
        command("lend", "init", "--home", self.home, "--name", "示例银行")
        self.folder = self.home / "lending"
        self.log = self.home / "service.log"

    def key(self, name: str, scope: str) -> str:
        """A new key, as ``lend key create`` makes it."""
        path = keys_path(self.folder)
        token, made = create_key([scope], name)
        save_keys(path, [*(load_keys(path) if path.exists() else []), made])
        return token

    @contextmanager
    def serving(self) -> Iterator[tuple[str, subprocess.Popen[str]]]:
        """(where, the process); asked to end at the end, if it still runs."""
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "taxledger.nodes.cli.main", "lend", "serve"),
                    *("--home", str(self.home), "--listen", "127.0.0.1:0"),
                ],
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on "), self.log.read_text()
            yield line.removeprefix("listening on ").strip(), process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
            process.stdout.close()

    def payments(self) -> list[Path]:
        return sorted((self.folder / "payments").glob("*.xml"))

    def open_pledges(self) -> list[bytes]:
        """Ids of all open pledges on the ledger, proved."""
        with self.network.client("bank1") as client:
            entries = client.state(b"\x05").entries[b"\x05"]
        return [pledge.id for _key, value in entries for pledge in decode_pledge_entry(value).pledges]


class Platform:
    """Applies for an enterprise, which signs its consent and its acceptance itself."""

    def __init__(self, lender: Lender, key: str, made: GeneratedEnterprise) -> None:
        self.lender, self.key, self.made = lender, key, made
        self.enterprise = Enterprise(lender.network, made.subject)
        self.enterprise.register()
        self.loan = ""

    def ask(self, url: str, method: str, path: str, body: object | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        return answered(httpx.request(method, url + path, headers=headers, json=body, timeout=90))

    def consent(self) -> bytes:
        """Exactly what the product asks, signed."""
        product = shipped_files().product(PRODUCT)
        issuers = load_settings(self.lender.folder).issuers
        asked = questions(product, self.enterprise.subject, issuers, datetime.now(UTC).date())
        return self.enterprise.artefact(
            "bank1",
            details=consent_details(asked),
            may_pledge=True,
            mode="store",
            retention_days=30,
            max_uses=10,
        ).raw

    def apply(self, url: str) -> dict[str, Any]:
        """An application for a loan on the enterprise's award, and what became of it."""
        assert self.made.award is not None
        body = {
            "id": self.made.subject[-6:],
            "product": PRODUCT,
            "consent": base64.b64encode(self.consent()).decode(),
            "security": [self.made.award.fields["number"]],
        }
        self.loan = self.ask(url, "POST", "/v1/applications", body)["loan"]
        shown: dict[str, Any] = self.ask(url, "GET", f"/v1/loans/{self.loan}?wait=decided&timeout_s=60")
        return shown

    def accept(self, url: str, amount: int = 10_000_00) -> None:
        """Bring back the acceptance that the enterprise signed."""
        offer = base64.b64decode(self.ask(url, "GET", f"/v1/loans/{self.loan}/offer")["offer"])
        account = decode_offer(offer).account
        assert account is not None  # the buyer pays there
        signed = sign_acceptance(
            self.enterprise.key, offer, amount=amount, term_months=6, account=account, accepted_ms=now_ms()
        )
        body = {"acceptance": base64.b64encode(signed).decode()}
        self.ask(url, "POST", f"/v1/loans/{self.loan}/acceptance", body)

    def settled(self, url: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.ask(url, "GET", f"/v1/loans/{self.loan}?wait=settled&timeout_s=60")
        return shown


def self_signed(folder: Path) -> tuple[Path, Path]:
    """PEM files of a certificate for 127.0.0.1 that signs itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "service.pem", folder / "service.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files
