"""Four real nodes in one process (sockets, TLS, stores and all), for tests of sharing under consent."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from taxledger.api.custody import ConsentReceipt, DossierProgress
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
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.nodes.cli.network import make_network
from taxledger.nodes.custodian.outbox import Receipt
from taxledger.nodes.custodian.report import UploadOutcome
from taxledger.nodes.custodian.upload import Uploader
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.home import Home
from taxledger.nodes.local.control import find_homes
from taxledger.nodes.node import Node
from taxledger.nodes.sealed.homekeys import open_key_provider
from taxledger.nodes.settings import NodeSettings
from taxledger.nodes.sources.cumcm import CumcmSource

MEMBERS = ("tax", "bank1", "bank2", "bank3")
INVOICES = 5


class Subject:
    """An enterprise with its key and secret."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = name
        rng = random.Random(f"{name}/{seed}")
        self.key = Signer(rng.randbytes(32))
        self.secret = rng.randbytes(32)
        self._orders = 0

    def artefact(self, chain_id: bytes, recipient: int, **changes: Any) -> Artefact:
        """A consent for all invoices of 2025, seen three times, for an hour."""
        nonce = os.urandom(32)
        now_ms = time.time_ns() // 1_000_000
        former = changes.pop("former", None)
        preimage = revoke_preimage(self.secret, nonce, 1)
        terms = ConsentTerms(
            chain_id=chain_id,
            nonce=nonce,
            subject=self.name,
            role="legal_representative",
            authentication="tax_portal_login",
            custodians=(CustodianTerms(member=1, revoke_hash=revoke_hash_of(preimage), former=former),),
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
            not_before=now_ms - 60_000,
            not_after=now_ms + 3_600_000,
            retention_days=0,
            retention_end="erase",
            onward="prohibited",
            jurisdiction="CN",
            legal_basis="consent",
            issued=now_ms,
        )
        return sign_artefact(replace(terms, **changes), self.key)

    def preimage(self, artefact: Artefact) -> bytes:
        return revoke_preimage(self.secret, artefact.terms.nonce, 1)

    def order(self, artefact: Artefact, action: str, **changes: Any) -> bytes:
        """A signed instruction."""
        self._orders = max(self._orders + 1, time.time_ns() // 1_000_000)  # as a wallet does
        order = ConsentOrder(
            chain_id=artefact.terms.chain_id,
            consent=artefact.id(1),
            action=action,
            number=self._orders,
            issued=time.time_ns() // 1_000_000,
        )
        return sign_instruction(replace(order, **changes), self.key).raw


class Nodes:
    """The running nodes.

    Attributes:
        homes, nodes: by name.
        chain_id: of their ledger.
    """

    def __init__(self, directory: Path, homes: dict[str, Home]) -> None:
        self.directory = directory
        self.homes = homes
        self.nodes: dict[str, Node] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def chain_id(self) -> bytes:
        return self.nodes["tax"].application.chain.chain_id

    def start(self, name: str, **settings: Any) -> Node:
        node = Node(self.homes[name], NodeSettings(**settings))
        self.nodes[name] = node
        self._tasks[name] = asyncio.ensure_future(node.run())
        return node

    async def stop(self, name: str) -> None:
        node = self.nodes.pop(name)
        node._stop.set()
        await self._tasks.pop(name)

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            while not all(node.is_ready() for node in self.nodes.values()):
                for task in self._tasks.values():
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    @property
    def desk(self) -> Any:
        custody = self.nodes["tax"].sharing.custody
        assert custody is not None
        return custody.desk

    async def register(self, subject: Subject) -> None:
        await self.desk.register_subject(
            subject.name, subject.key.public_key, authentication="at the counter", reason=None
        )

    async def grant(self, artefact: Artefact) -> ConsentReceipt:
        return await self.desk.grant(artefact.raw)

    async def ask(
        self, name: str, query: Query, artefact: Artefact | bytes, request: bytes | None = None
    ) -> tuple[bytes, list[DossierProgress]]:
        """The file, and the progress on the way."""
        progress: list[DossierProgress] = []
        raw = artefact if isinstance(artefact, bytes) else artefact.raw
        async for each in self.nodes[name].sharing.recipient.dossier(query, raw, request or os.urandom(16)):
            if isinstance(each, bytes):
                return each, progress
            progress.append(each)
        raise AssertionError("a dossier ends with its file")

    def verify(self, name: str, data: bytes, query: Query) -> Disclosed:
        home = self.homes[name]
        return verify_disclosure(
            data,
            decode_policy(home.policy()),
            query,
            recipient=home.config.number,
            now_ms=time.time_ns() // 1_000_000,
            age_ms_max=600_000,
        )

    async def attest(self, *paths: Path, **options: Any) -> UploadOutcome:
        """Upload CUMCM files through the tax office's node."""
        loop = asyncio.get_running_loop()
        node = self.nodes["tax"]

        class Submitter:
            def submit(self, raw: bytes) -> Receipt:
                said = asyncio.run_coroutine_threadsafe(
                    node.answers.submit(raw, wait="certified", timeout_s=30.0), loop
                ).result()
                assert said.code is not None
                return Receipt(code=said.code, height=said.height or 0, index=said.index or 0)

            def find(self, id: bytes) -> Receipt | None:
                found = asyncio.run_coroutine_threadsafe(node.answers.transaction(id), loop).result()
                if found is None:
                    return None
                said = found.receipt
                return Receipt(code=said.code or 0, height=said.height or 0, index=said.index or 0)

        home = self.homes["tax"]
        vault = Vault.open(home.vault_path, open_key_provider(home), chain_id=self.chain_id, member=1)
        try:
            uploader = Uploader(vault, Signer(home.key("transaction")), Submitter())
            return await asyncio.to_thread(uploader.upload, paths, CumcmSource(), **options)
        finally:
            vault.close()


@asynccontextmanager
async def running(directory: Path, **settings: Any) -> AsyncIterator[Nodes]:
    """Four nodes, running."""
    make_network(directory, members=list(MEMBERS), observers=[], engine="embedded", network="share")
    homes = {home.config.name: home for home in find_homes(directory)}
    nodes = Nodes(directory, homes)

    async def shared() -> None:
        """The nodes of this process share the loop's executor: none of them may end it for the others."""

    asyncio.get_running_loop().shutdown_default_executor = shared  # type: ignore[method-assign, assignment]
    try:
        for name in MEMBERS:
            nodes.start(name, **settings)
        await nodes.ready()
        yield nodes
    finally:
        for name in list(nodes.nodes):
            await nodes.stop(name)
