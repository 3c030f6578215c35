"""An enterprise borrows through a platform: a real network, the lender's service as a process, and its kills."""

from __future__ import annotations

import json
import random
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from lendingservice import Lender, Platform, attest_awards, last_month, self_signed

from network import real_network, until
from taxledger.ledger.policies import decode_policies
from taxledger.lending.archive import verify_archive
from taxledger.nodes.generating import GeneratedEnterprise, generate_enterprise

KILLS = 5


def make(count: int, seed: int) -> list[GeneratedEnterprise]:
    """Enterprises that every product takes, with two years of records up to last month."""
    month = last_month(datetime.now(UTC).date())
    first = f"{int(month[:4]) - 2}{month[4:]}"
    return [generate_enterprise(seed + number, "good", first, month) for number in range(count)]


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender]:
    with real_network(
        tmp_path_factory.mktemp("lending") / "net", members=("tax", "bank1"), tag_keys=False
    ) as network:
        yield Lender(network)


def test_an_enterprise_borrows_through_a_platform(lender: Lender, tmp_path: Path) -> None:
    made = make(1, seed=40)
    attest_awards(lender.network, made, tmp_path / "sources")
    paid, pledged = len(lender.payments()), len(lender.open_pledges())
    platform = Platform(lender, lender.key("shopcloud", "lend_apply"), made[0])
    officer = {"Authorization": f"Bearer {lender.key('counter', 'lend_officer')}"}
    rival = {"Authorization": f"Bearer {lender.key('rival', 'lend_apply')}"}
    core = {"Authorization": f"Bearer {lender.key('core', 'lend_core')}"}
    with lender.serving() as (url, process):
        shown = platform.apply(url)
        assert (shown["state"], shown["channel"]) == ("offered", "shopcloud"), shown
        loan = f"{url}/v1/loans/{platform.loan}"
        assert httpx.get(loan, headers=rival).json()["code"] == "loan_unknown"
        platform.accept(url)
        shown = platform.settled(url)
        assert (shown["state"], shown["principal"]) == ("paid_out", "10000.00"), shown
        assert len(lender.payments()) == paid + 1
        assert len(lender.open_pledges()) == pledged + len(shown["pledges"]) == pledged + 1
        page = httpx.get(f"{loan}/report.html", headers=officer, timeout=60)
        assert "政采贷" in page.text
        paper = httpx.get(f"{loan}/report.pdf", headers=officer, timeout=60)
        assert paper.content.startswith(b"%PDF")
        archive = httpx.get(f"{loan}/archive", headers=officer, timeout=60)
        policies = decode_policies((lender.home / "policy.txt").read_bytes())
        found = verify_archive(archive.content, policies, None)
        assert (found.loan, found.state, found.paid) == (platform.loan, "paid_out", 10_000_00)
        repaid = {
            "reference": "CB-1",
            "amount": shown["owed"],
            "value_date": shown["draws"][0]["value_date"],
        }
        assert httpx.post(f"{loan}/close", headers=officer).status_code == 202
        platform.settled(url)
        assert httpx.post(f"{loan}/repayments", json=repaid, headers=core, timeout=60).status_code == 202
        assert platform.settled(url)["state"] == "closed"
        assert len(lender.open_pledges()) == pledged
    assert process.returncode == 0
    log = lender.log.read_text()
    assert platform.loan in log
    loggers = {
        json.loads(line)["logger"].partition(".")[0] for line in log.splitlines() if line.startswith("{")
    }
    assert loggers <= {"taxledger", "uvicorn"}, loggers
    for plain in (made[0].subject[5:], made[0].name, str(shown["accepted"]["account"]["number"])):
        assert plain not in log


@pytest.mark.slow
def test_a_service_that_is_killed_pays_once(lender: Lender, tmp_path: Path) -> None:
    made = make(KILLS, seed=50)
    attest_awards(lender.network, made, tmp_path / "sources")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    key = lender.key("shopcloud", "lend_apply")
    for number, each in enumerate(made):
        paid, pledged = len(lender.payments()), len(lender.open_pledges())
        platform = Platform(lender, key, each)
        with lender.serving() as (url, process):
            assert platform.apply(url)["state"] == "offered"
            platform.accept(url)
            # The first at once, the others anywhere on the way to the payment and beyond.
            time.sleep(number and rng.random())
            process.kill()
        with lender.serving() as (url, process):
            until(lambda url=url, one=platform: one.settled(url)["state"] == "paid_out", "it is paid out")  # type: ignore[misc]
            shown = platform.settled(url)
            assert len(shown["draws"]) == 1
        assert process.returncode == 0
        assert len(lender.payments()) == paid + 1
        assert len(lender.open_pledges()) == pledged + 1


@pytest.mark.slow
def test_with_a_certificate_it_speaks_tls(lender: Lender, tmp_path: Path) -> None:
    certificate, private_key = self_signed(tmp_path)
    settings = lender.folder / "lending.toml"
    before = settings.read_text("utf-8")
    lender.key("counter", "lend_officer")
    settings.write_text(
        f'{before}\n[service]\ncertificate = "{certificate}"\nprivate_key = "{private_key}"\n', "utf-8"
    )
    try:
        with lender.serving() as (url, process):
            assert url.startswith("https://127.0.0.1:")
            context = ssl.create_default_context(cafile=certificate)
            answer = httpx.get(f"{url}/healthz", verify=context)
            assert answer.json() == {"status": "ok"}
            assert answer.headers["strict-transport-security"]
        assert process.returncode == 0
    finally:
        settings.write_text(before, "utf-8")
