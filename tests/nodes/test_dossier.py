"""The custodian beside its vault: which document a schema has, and how its own troubles are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import chainkit
import pytest
from sharingkit import INVOICES, Subject

from taxledger.ledger import canonical
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import FormatError, LimitError, RefusedError, TaxledgerError, UnavailableError
from taxledger.ledger.governance import schema_register
from taxledger.ledger.hashing import sha256
from taxledger.ledger.query import Query
from taxledger.ledger.schemas import encode_schema
from taxledger.nodes.answers import Answers
from taxledger.nodes.custodian.dossier import Custodian
from taxledger.nodes.recipient.asking import Recipient

QUERY = Query(subject="cumcm:E1", issuer=1, kinds=(INVOICES,), from_period="2025-01", to_period="2025-12")
FIRST, *_ = (each for each in BUILTIN if each.kind == chainkit.INVOICE)
LAPSED, REGISTERED = (
    encode_schema(replace(FIRST, number=2, fields=fields)) for fields in (FIRST.fields[:-1], FIRST.fields)
)


class View:
    """A state map with two proposals of one schema number; only the second came into force."""

    def get(self, _key: bytes) -> bytes:
        return canonical.encode([sha256(REGISTERED), 7])

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for number, (document, state) in enumerate([(LAPSED, 4), (REGISTERED, 3)]):
            yield (
                prefix + bytes([number] * 16),
                canonical.encode([schema_register(document), 1, [1], state, 7]),
            )


@pytest.fixture
def custodian(tmp_path: Path) -> Iterator[Custodian]:
    genesis = chainkit.make_genesis()
    made = Custodian(
        tmp_path / "vault.sqlite", bytes(32), chain_id=bytes(16), member=chainkit.ISSUER, genesis=genesis
    )
    yield made
    made.close()


def test_a_proposal_that_lapsed_gives_no_schema_its_document(custodian: Custodian) -> None:
    state = SimpleNamespace(view=View())
    for _ in range(2):
        assert custodian.document(state, chainkit.INVOICE, 2) == REGISTERED


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        (FormatError("the vault is damaged"), UnavailableError),
        (LimitError("too many"), RefusedError),
        (UnavailableError("no vault"), UnavailableError),
    ],
)
def test_trouble_of_the_custodian_is_no_mistake_of_who_asks(
    custodian: Custodian, monkeypatch: pytest.MonkeyPatch, inner: TaxledgerError, told: type[TaxledgerError]
) -> None:
    def fail(*_: object) -> bytes:
        raise inner

    monkeypatch.setattr(custodian, "_evidence", fail)
    with pytest.raises(told):
        custodian.evidence(SimpleNamespace(), SimpleNamespace(), b"")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("answer_too_large", "answer_too_large"),
        ("consent_paused", "consent_paused"),
        ("use_closed", "use_closed"),
        ("key_missing", "custodian_refused"),
        ("peer_unknown", "custodian_refused"),
        ("?", "custodian_refused"),
    ],
)
async def test_only_a_custodians_words_about_the_disclosure_become_problems_of_this_node(
    theirs: str, ours: str
) -> None:
    class Peer:
        async def call(self, *_: object, **__: object) -> bytes:
            raise RefusedError(theirs, "m1: no")

    artefact = Subject("cumcm:E1").artefact(bytes(16), 2)
    recipient = Recipient(
        member=2,
        policy=SimpleNamespace(),
        peers={1: Peer()},
        hpke_key=bytes,
        own=SimpleNamespace(),
        kept=SimpleNamespace(),
        discard=print,
    )
    with pytest.raises(RefusedError) as refused:
        await anext(recipient.dossier(QUERY, artefact.raw, bytes(16)))
    assert refused.value.code == ours


@pytest.mark.parametrize(
    ("issuer", "code"), [(1, "issuer_unknown"), (2, "issuer_unknown"), (9, "consent_missing")]
)
async def test_without_a_consent_a_node_shows_its_own_records_only(issuer: int, code: str) -> None:
    """Member 1 is no custodian, member 2 has no node, and member 9 would have to be asked under a consent."""
    answers = Answers(
        config=SimpleNamespace(number=1, network="net"),
        replica=SimpleNamespace(),
        keys=SimpleNamespace(),
        policy=bytes,
        custodian=None,
        peers={9: SimpleNamespace()},
        is_ready=lambda: True,
    )
    with pytest.raises(RefusedError) as refused:
        await answers.dossier(replace(QUERY, issuer=issuer))
    assert refused.value.code == code
