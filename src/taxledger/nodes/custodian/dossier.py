"""The custodian's answer to a dossier: plain records out of the vault, proofs out of the certified state,
one file.

Who may have it is decided elsewhere: the issuer itself (``answers.py``), or who has a consent (``disclosing.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from taxledger.ledger import canonical, statekeys
from taxledger.ledger.assemble import Scope, assemble, everything
from taxledger.ledger.errors import InputError, LimitError, RefusedError, UnavailableError
from taxledger.ledger.evidence import Evidence, encode_evidence
from taxledger.ledger.genesis import Genesis
from taxledger.ledger.hashing import sha256
from taxledger.ledger.members import member_of
from taxledger.ledger.query import Query
from taxledger.ledger.records import RecordValue
from taxledger.ledger.schemas import Value, decode_schema
from taxledger.nodes.custodian.erasures import is_erased
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.logs import get_logger
from taxledger.nodes.replica import CertifiedState
from taxledger.nodes.sealed.providers import KeyProvider

__all__ = ["Custodian"]


class Custodian:
    """Serves dossiers of the records this member has attested. One thread reads the vault.

    Args:
        path: the vault; it need not be there yet.
        keys: wraps the vault's data keys.
        chain_id: 16 bytes.
        member: this member's number.
        genesis: its schema documents are those that records of the first schemas name.
    """

    def __init__(
        self, path: Path, keys: KeyProvider, *, chain_id: bytes, member: int, genesis: Genesis
    ) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vault")
        self._path = path
        self._keys = keys
        self._chain_id = chain_id
        self._member = member
        self._documents: dict[tuple[int, int], bytes] = {}
        for document in genesis.schemas:
            schema = decode_schema(document)
            self._documents[schema.kind, schema.number] = document
        self._vault: Vault | None = None

    def _open(self) -> Vault:
        """On the vault's thread."""
        if self._vault is None:
            if not self._path.exists():
                raise UnavailableError("this member has attested nothing yet: it has no vault")
            self._vault = Vault.open(self._path, self._keys, chain_id=self._chain_id, member=self._member)
        return self._vault

    def evidence(self, query: Query, state: CertifiedState, note: bytes) -> bytes:
        """Evidence of all fields, for the issuer itself. Runs on ``executor``; errors as ``opened``."""
        evidence = self.opened(query, state, note)
        try:
            return encode_evidence(evidence)
        except LimitError as error:
            raise RefusedError("answer_too_large", str(error)) from error

    def opened(self, query: Query, state: CertifiedState, note: bytes, scope: Scope = everything) -> Evidence:
        """Evidence for a query at the certified state, opened as far as the scope says. Runs on ``executor``.

        Raises:
            RefusedError: ``issuer_unknown``: not an issuer of a kind asked; ``answer_too_large``.
            UnavailableError: the vault lacks what the answer needs, or is damaged.
        """
        try:
            return self._evidence(query, state, note, scope)
        except LimitError as error:
            raise RefusedError("answer_too_large", str(error)) from error
        except InputError as error:  # the query was checked long before: this is about our own file
            get_logger("custodian").error("the vault is damaged", exc_info=error)
            raise UnavailableError("the custodian can't read its vault; its log says more") from error

    def _evidence(self, query: Query, state: CertifiedState, note: bytes, scope: Scope) -> Evidence:
        member = member_of(state.view, query.issuer)
        if query.issuer != self._member or member is None:
            raise RefusedError("issuer_unknown", f"member {query.issuer} is not the issuer here")
        for kind in query.kinds:
            if kind not in member.kinds:
                raise RefusedError("issuer_unknown", f"member {query.issuer} does not issue kind {kind}")
        vault = self._open()
        years = [
            year
            for year in query.years
            if state.view.get(statekeys.tag_key_key(query.issuer, year)) is not None
        ]
        sigmas = {}
        for kind in query.kinds:
            for year in years:
                sigma = vault.sigma(query.subject, kind, year)
                if sigma is not None:
                    sigmas[kind, year] = sigma

        def opener(asked: list[tuple[bytes, RecordValue]]) -> Sequence[tuple[bytes, Sequence[Value]] | None]:
            opened = vault.open_many([(key, value.version) for key, value in asked])
            for (key, _value), each in zip(asked, opened, strict=True):
                if each is None and is_erased(vault, key):
                    raise UnavailableError(
                        "records of these kinds are being erased, and the ledger does not say so yet: "
                        "ask again in a moment"
                    )
            return opened

        return assemble(
            query,
            view=state.view,
            checkpoint=note,
            header=state.header_leaf,
            inclusion=state.header_inclusion(),
            sigmas=sigmas,
            schema_document=lambda kind, schema: self.document(state, kind, schema),
            opener=opener,
            scope=scope,
        )

    def document(self, state: CertifiedState, kind: int, schema: int) -> bytes:
        """A schema's document: of the genesis, or of the proposal that registered it."""
        found = self._documents.get((kind, schema))
        if found is not None:
            return found
        entry = state.view.get(statekeys.schema_key(kind, schema))
        digest = None if entry is None else canonical.decode(entry)[0]
        for _, value in state.view.scan(b"\x0b"):
            change = canonical.decode(value)[0]
            # Not any proposal of this number will do: one that lapsed may have proposed another document.
            if change[0] == "schema.register" and sha256(change[1]) == digest:
                self._documents[kind, schema] = document = bytes(change[1])
                return document
        raise UnavailableError(f"the document of schema {kind}/{schema} is not known to this node")

    def close(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)
        if self._vault is not None:
            self._vault.close()
