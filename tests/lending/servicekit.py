"""A lender's service over a loan engine whose world is files (``loankit``): no network, no node."""

from __future__ import annotations

import base64
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
from consentkit import SUBJECT_KEY
from fastapi import FastAPI
from loankit import PAYEE, Bench, artefact

from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.errors import InvariantError, RefusedError
from taxledger.lending.loans.contract import sign_acceptance
from taxledger.lending.loans.loan import Loan
from taxledger.lending.loans.ports import Application
from taxledger.lending.loans.store import open_store
from taxledger.lending.products.catalogue import shipped_files
from taxledger.lending.products.keeper import ProductKeeper
from taxledger.lending.service.access import Caller
from taxledger.lending.service.app import begin_shutdown, create_service
from taxledger.lending.service.context import ServiceSettings
from taxledger.lending.service.worker import Worker
from taxledger.lending.watch import WatchStore

SCOPES = ("lend_apply", "lend_officer", "lend_core")


class BenchDesk:
    """``service.desk.Desk`` of a bench."""

    def __init__(self, folder: Path, **terms: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.store = open_store(f"sqlite:///{folder / 'loans.sqlite'}")
        self.bench = Bench(self.store, folder, **terms)
        self.engine, self.clock = self.bench.engine, self.bench.clock
        self.watch = WatchStore(folder / "watch.sqlite")
        self.keeper = ProductKeeper(shipped_files(), folder / "decided")

    def close(self) -> None:
        self.store.close()
        self.watch.close()

    def apply(self, application: Application, artefact: bytes) -> Loan:
        self.engine.check_consent(application, decode_artefact(artefact))
        self.engine.apply(application)
        return self.engine.consent(application.id, artefact)

    def advance(self, id: str, *, on_step: Callable[[Loan], None] | None = None) -> Loan:
        return self.engine.advance(id, on_step=on_step)

    def report(self, id: str, *, language: Literal["zh", "en"], pdf: bool) -> bytes:
        if self.engine.load(id).decision is None:
            raise RefusedError("loan_undecided", "nothing was decided yet")
        return b"%PDF" if pdf else f"<p lang={language}>".encode()

    def archive(self, id: str) -> bytes:
        self.engine.load(id)
        return b"archive"


class NamedCallers:
    """Tokens that are ``name`` or ``name:scope,scope``."""

    def __init__(self) -> None:
        self.known = {
            "cloud": Caller(key="00000001", name="cloud", scopes=frozenset({"lend_apply"})),
            "other": Caller(key="00000002", name="other", scopes=frozenset({"lend_apply"})),
            "officer": Caller(key="00000003", name="counter", scopes=frozenset({"lend_officer"})),
            "core": Caller(key="00000004", name="core", scopes=frozenset({"lend_core"})),
        }

    def find(self, token: str) -> Caller | None:
        return self.known.get(token)


class Service:
    """The application with its worker; ``http`` as somebody."""

    def __init__(self, folder: Path, *, settings: ServiceSettings | None = None, **terms: Any) -> None:
        self.desk = BenchDesk(folder, **terms)
        self.bench = self.desk.bench
        self.broken: list[InvariantError] = []
        self.worker = Worker(self.desk, on_invariant=self.broken.append, threads=2, pauses_s=(0.01,))
        self.app: FastAPI = create_service(
            self.desk, self.worker, NamedCallers(), on_invariant=self.broken.append, settings=settings
        )

    def http(self, token: str | None = None) -> httpx.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://lender", headers=headers, timeout=60)

    def close(self) -> None:
        begin_shutdown(self.app)
        self.worker.stop()
        self.desk.close()


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Service]:
    """A service with its worker running."""
    service = Service(folder, **options)
    service.worker.start()
    try:
        yield service
    finally:
        service.close()
        assert not service.broken


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def application(id: str | None = "A-1", **changes: Any) -> dict[str, Any]:
    body = {"product": "procurement", "consent": b64(changes.pop("artefact", None) or artefact()), **changes}
    return body if id is None else {"id": id, **body}


def accept(service: Service, offer: bytes, amount: int = 6_000_000, **changes: Any) -> str:
    """base64 of the enterprise's acceptance."""
    return b64(
        sign_acceptance(
            changes.pop("signer", SUBJECT_KEY),
            offer,
            amount=amount,
            term_months=changes.pop("months", 6),
            account=changes.pop("account", PAYEE),
            accepted_ms=service.desk.clock.now_ms(),
        )
    )


async def offered(service: Service, token: str = "cloud", id: str = "A-1") -> str:
    """The id of a loan that is offered."""
    async with service.http(token) as http:
        answer = await http.post("/v1/applications", json=application(id))
        assert answer.status_code in (200, 202), answer.text
        loan: str = answer.json()["loan"]
        shown = await http.get(f"/v1/loans/{loan}?wait=decided")
        assert shown.json()["state"] == "offered", shown.text
    return loan


async def paid_out(service: Service, token: str = "cloud", id: str = "A-1") -> str:
    """The id of a loan that was paid out."""
    loan = await offered(service, token, id)
    async with service.http(token) as http:
        offer = base64.b64decode((await http.get(f"/v1/loans/{loan}/offer")).json()["offer"])
        path = f"/v1/loans/{loan}/acceptance"
        answer = await http.post(path, json={"acceptance": accept(service, offer)})
        assert answer.status_code == 202, answer.text
        shown = (await http.get(f"/v1/loans/{loan}?wait=settled")).json()
        assert shown["state"] == "paid_out", shown
    return loan


class Gate:
    """Stops a call until it is opened."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def gated(*arguments: Any, **named: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return call(*arguments, **named)

        return gated


def later(service: Service, days: int) -> None:
    service.bench.clock.day += timedelta(days=days)
