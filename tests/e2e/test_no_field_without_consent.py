"""There is no path by which a bank obtains a field without a consent: every refusal, route, peer verb and command.

One network for all of it: an enterprise with forty sales whose values are long and unlike any others, three banks
that try. After each attempt everything that came back is searched for those values; the ledger shows no use.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import typer.main
from custodykit import write_cumcm
from sharing import INVOICES, Enterprise, answered, attest, code_of, now_ms, peer
from test_leaks import forms, hidden_rows, secrets_of

from network import RealNetwork, real_network, until
from taxledger.ledger import canonical
from taxledger.ledger.consent import Artefact, Detail, PredicateTerms, decode_artefact, sign_artefact
from taxledger.ledger.crypto import Signer
from taxledger.ledger.disclosure import decode_disclosure, piece_info
from taxledger.ledger.errors import TaxledgerError, VerificationError
from taxledger.ledger.parts import join_evidence
from taxledger.ledger.permit import encode_permit, sign_permit
from taxledger.ledger.query import Query
from taxledger.nodes.cli.main import app, main
from taxledger.nodes.identity.hpke import hpke_open

SUBJECT = "cumcm:E54321"


class Scene:
    """The network, the enterprise, and what nobody may see."""

    def __init__(self, network: RealNetwork, folder: Path) -> None:
        self.network, self.folder = network, folder
        attest(network, write_cumcm(folder / "e.csv", hidden_rows(40, "E54321")))
        attest(network, write_cumcm(folder / "other.csv", hidden_rows(3, "E98765")))
        self.giver = Enterprise(network, SUBJECT)
        self.other = Enterprise(network, "cumcm:E98765")
        self.giver.register()
        self.other.register()
        # The subject itself is known to whoever asks for it, and dates are no secret.
        known = {SUBJECT, SUBJECT.partition(":")[2]}
        self.hidden = {
            form
            for value in secrets_of(network, SUBJECT)
            if value not in known and not re.fullmatch(r"\d{4}-\d\d-\d\d", str(value))
            for form in forms(value)
        }
        assert len(self.hidden) > 2_000
        self.planned: list[tuple[str, int, str, int, int]] = []

    def innocent(self, data: bytes, what: str) -> None:
        """Nothing hidden stands in this."""
        assert not any(each in data for each in self.hidden), what

    def granted(self) -> set[str]:
        """Ids of every consent of the enterprise that the custodian holds."""
        body = {"subject": SUBJECT}
        said = answered(self.network.request("POST", "tax", "/v1/consents/list", json=body))
        return {each["consent"] for each in said["consents"]}

    def no_new_use(self, what: str) -> None:
        """No use came on the ledger by an attempt."""
        assert self.giver.settled_uses() == self.planned, what

    def used(self) -> None:
        """What was used so far was meant."""
        self.planned = self.giver.settled_uses()

    def peer(self, bank: str, verb: str, message: Any) -> tuple[int, bytes]:
        return peer(self.network, bank, verb, message)

    def disclose(self, bank: str, artefact: Artefact, **changes: Any) -> tuple[int, str]:
        """(status, code) of a ``disclose`` straight to the custodian."""
        parts = {
            "consent": artefact.id(1),
            "digest": artefact.digest(1),
            "query": self.giver.query().as_list(),
            "request": os.urandom(16),
            **changes,
        }
        status, content = self.peer(bank, "disclose", [1, "disclose", *parts.values()])
        self.innocent(content, f"disclose {changes}")
        decoded = canonical.decode(content)
        return status, decoded[2] if decoded[1] == "error" else "none"

    def logged(self, code: str) -> None:
        """A node's log says that something was refused with this code (the answer may come before the line)."""
        until(lambda: any(code in self.network.log(name) for name in self.network.names), f"{code} is logged")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    with real_network(folder / "net", tag_keys=False) as network:
        yield Scene(network, folder)


# --- consents that do not cover it -------------------------------------------------------------


def _none(scene: Scene) -> httpx.Response:
    query = scene.giver.query()
    body = {
        "subject": SUBJECT,
        "issuer": 1,
        "kinds": [INVOICES],
        "from": query.from_period,
        "to": query.to_period,
    }
    return scene.network.request("POST", "bank1", "/v1/dossiers", json=body)


def _ask(scene: Scene, artefact: Artefact | bytes, *, bank: str = "bank1", **query: Any) -> httpx.Response:
    return scene.giver.ask(bank, artefact, scene.giver.query(**query))


def _foreign(scene: Scene) -> httpx.Response:
    return _ask(scene, scene.other.grant("bank1"))


def _unknown(scene: Scene) -> httpx.Response:
    return _ask(scene, scene.giver.artefact("bank1"))


def _ordered(*actions: str) -> Callable[[Scene], httpx.Response]:
    def case(scene: Scene) -> httpx.Response:
        artefact = scene.giver.grant("bank1")
        for action in actions:
            answered(scene.giver.order(artefact, action))
        return _ask(scene, artefact)

    return case


def _revoked_by_preimage(scene: Scene) -> httpx.Response:
    artefact = scene.giver.grant("bank1")
    answered(scene.giver.revoke_by_preimage(artefact, "bank3"))
    return _ask(scene, artefact)


def _superseded(scene: Scene) -> httpx.Response:
    artefact = scene.giver.grant("bank1")
    scene.giver.grant("bank1", former=artefact.id(1))
    return _ask(scene, artefact)


def _expired(scene: Scene) -> httpx.Response:
    artefact = scene.giver.grant("bank1", not_after=now_ms() + 1_500)
    until(lambda: now_ms() > artefact.terms.not_after, "the consent expired")
    return _ask(scene, artefact)


def _early(scene: Scene) -> httpx.Response:
    return _ask(scene, scene.giver.grant("bank1", not_before=now_ms() + 600_000))


def _used_up(scene: Scene) -> httpx.Response:
    artefact = scene.giver.grant("bank1", frequency="once", max_uses=1)
    assert _ask(scene, artefact).status_code == 200
    scene.used()
    return _ask(scene, artefact)


def _other_kind(scene: Scene) -> httpx.Response:
    return _ask(scene, scene.giver.grant("bank1"), kinds=(2, INVOICES))


def _other_period(scene: Scene) -> httpx.Response:
    return _ask(scene, scene.giver.grant("bank1"), from_period="2024-12")


def _proof_only(scene: Scene) -> httpx.Response:
    predicates = (PredicateTerms(name="net_sales_at_least", argument=1),)
    artefact = scene.giver.grant("bank1", mode="proof_only", details=(), predicates=predicates)
    return _ask(scene, artefact)


def _other_bank(scene: Scene) -> httpx.Response:
    return _ask(scene, scene.giver.grant("bank1"), bank="bank2")


def _changed_byte(scene: Scene) -> httpx.Response:
    raw = bytearray(scene.giver.grant("bank1").raw)
    raw[raw.index(b"credit_application")] ^= 1
    return _ask(scene, bytes(raw))


def _signed_by_another(scene: Scene) -> httpx.Response:
    terms = scene.giver.grant("bank1").terms
    return _ask(scene, sign_artefact(terms, Signer(os.urandom(32))))


REFUSED = {
    "no consent": (_none, "consent_missing"),
    "never granted": (_unknown, "consent_unknown"),
    "foreign": (_foreign, "consent_subject_mismatch"),
    "paused": (_ordered("pause"), "consent_paused"),
    "revoked": (_ordered("revoke"), "consent_revoked"),
    "paused, then revoked": (_ordered("pause", "revoke"), "consent_revoked"),
    "revoked by preimage": (_revoked_by_preimage, "consent_revoked"),
    "superseded": (_superseded, "consent_superseded"),
    "expired": (_expired, "consent_expired"),
    "not yet valid": (_early, "consent_early"),
    "used up": (_used_up, "consent_used_up"),
    "another kind": (_other_kind, "consent_kind_exceeded"),
    "another period": (_other_period, "consent_period_exceeded"),
    "predicates only": (_proof_only, "consent_kind_exceeded"),
    "another bank's": (_other_bank, "consent_recipient_mismatch"),
    "a changed byte": (_changed_byte, "consent_signature_invalid"),
    "signed by another": (_signed_by_another, "consent_unknown"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_dossier_is_refused(scene: Scene, case: str) -> None:
    attempt, code = REFUSED[case]
    answer = attempt(scene)
    assert code_of(answer) == code
    scene.innocent(answer.content, case)
    scene.logged(code)
    scene.no_new_use(case)


def test_a_paused_consent_goes_on_when_it_is_resumed(scene: Scene) -> None:
    artefact = scene.giver.grant("bank1")
    answered(scene.giver.order(artefact, "pause"))
    assert code_of(_ask(scene, artefact)) == "consent_paused"
    answered(scene.giver.order(artefact, "resume"))
    answer = _ask(scene, artefact)
    assert len(scene.giver.verify("bank1", answer.content).answer.records) == 40
    scene.used()


def test_fields_outside_the_consent_stay_closed(scene: Scene) -> None:
    detail = Detail(kind=INVOICES, from_period="2025-01", to_period="2025-12", fields=("date", "direction"))
    artefact = scene.giver.grant("bank1", details=(detail,))
    answer = _ask(scene, artefact)
    said = scene.giver.verify("bank1", answer.content)
    assert {name for record in said.answer.records for name in record.fields or ()} == {"date", "direction"}
    # All that is there of its secrets: σ of the subject it asked for, and the salts of the two open fields.
    visible = {each for each in scene.hidden if each in answer.content}
    assert visible <= {form for value in shown_secrets(answer.content) for form in forms(value)}
    scene.used()


def shown_secrets(data: bytes) -> Iterator[bytes]:
    """σ, and the salts of all opened fields."""
    file = decode_disclosure(data)
    evidence = join_evidence(file.frame, file.parts)
    yield from evidence.tags.values()
    for group in evidence.groups:
        assert group.opened is not None
        for secret, (_raw, value) in zip(group.secrets, group.values, strict=True):
            for number in range(len(group.opened[value.schema].positions)):
                yield secret[16 * number : 16 * number + 16]


def test_a_field_that_no_record_has_is_not_granted(scene: Scene) -> None:
    detail = Detail(kind=INVOICES, from_period="2025-01", to_period="2025-12", fields=("iban",))
    answer = scene.giver.try_grant(scene.giver.artefact("bank1", details=(detail,)).raw)
    assert code_of(answer) == "consent_fields_exceeded"


def test_a_consent_that_the_subject_did_not_sign_is_not_granted(scene: Scene) -> None:
    forged = sign_artefact(scene.giver.artefact("bank1").terms, Signer(os.urandom(32)))
    assert code_of(scene.giver.try_grant(forged.raw)) == "consent_key_unknown"
    assert code_of(_ask(scene, forged)) == "consent_unknown"
    # Nor does a bank's own key do: its API can't reach the desk of the custodian at all.
    body = {"artefact": base64.b64encode(forged.raw).decode()}
    answer = scene.network.request("POST", "bank1", "/v1/consents", json=body)
    assert answer.status_code >= 400
    scene.logged("consent_key_unknown")
    scene.no_new_use("forged")


# --- a bank that plays by no rules -------------------------------------------------------------


def test_the_custodian_itself_refuses_a_bank_that_checks_nothing(scene: Scene) -> None:
    giver = scene.giver
    artefact = giver.grant("bank1", frequency="once", max_uses=1)
    query = giver.query()
    longer = giver.query(from_period="2024-01").as_list()
    kinds = giver.query(kinds=(2, INVOICES)).as_list()
    elsewhere = Query(
        subject=SUBJECT, issuer=2, kinds=(INVOICES,), from_period="2025-01", to_period="2025-12"
    ).as_list()
    assert scene.disclose("bank2", artefact) == (409, "consent_recipient_mismatch")
    assert scene.disclose("bank1", artefact, digest=bytes(32)) == (409, "consent_changed")
    assert scene.disclose("bank1", artefact, consent=bytes(16)) == (409, "consent_unknown")
    assert scene.disclose("bank1", artefact, query=longer) == (409, "consent_period_exceeded")
    assert scene.disclose("bank1", artefact, query=kinds) == (409, "consent_kind_exceeded")
    assert scene.disclose("bank1", artefact, query=elsewhere) == (409, "consent_custodian_mismatch")
    assert scene.disclose("bank1", artefact, query=scene.other.query().as_list()) == (
        409,
        "consent_subject_mismatch",
    )
    assert scene.disclose("bank1", artefact, query=[*query.as_list(), 1])[0] == 400
    assert scene.disclose("bank1", artefact, request=b"short")[0] == 400
    scene.no_new_use("hostile")
    for code in ("consent_changed", "consent_period_exceeded", "consent_recipient_mismatch"):
        assert code in scene.network.log("tax")


def test_pieces_of_a_use_go_to_its_recipient_only(scene: Scene) -> None:
    artefact = scene.giver.grant("bank1", frequency="once", max_uses=1)
    consent = artefact.id(1)
    assert _refusal(scene.peer("bank1", "piece", [1, "piece", consent, 1, 0])) == "use_unknown"
    assert scene.disclose("bank1", artefact) == (200, "none")
    assert _refusal(scene.peer("bank2", "piece", [1, "piece", consent, 1, 0])) == "consent_recipient_mismatch"
    assert _refusal(scene.peer("bank1", "piece", [1, "piece", consent, 1, 99])) == "malformed"
    assert _refusal(scene.peer("bank1", "piece", [1, "piece", consent, 2, 0])) == "use_unknown"
    status, sealed = scene.peer("bank1", "piece", [1, "piece", consent, 1, 0])
    assert status == 200
    scene.innocent(sealed, "a sealed piece")  # on its way it says nothing even to who breaks TLS
    home = scene.network.homes["bank1"]
    frame = hpke_open(home.key("hpke"), piece_info(consent, 1, 0), sealed)
    assert canonical.decode(frame)[1] == "frame"
    for key, info in (
        (scene.network.homes["bank2"].key("hpke"), piece_info(consent, 1, 0)),
        (home.key("hpke"), piece_info(consent, 1, 1)),
        (home.key("hpke"), piece_info(consent, 2, 0)),
    ):
        with pytest.raises(VerificationError, match="seal_invalid"):
            hpke_open(key, info, sealed)
    # Revoked between two pieces: the next one is withheld, and the close says that one left.
    answered(scene.giver.order(artefact, "revoke"))
    assert _refusal(scene.peer("bank1", "piece", [1, "piece", consent, 1, 1])) == "disclosure_withheld"
    uses = [use for use in scene.giver.settled_uses() if use[0] == consent.hex()]
    assert uses == [(consent.hex(), 1, "partial", 40, 0)]
    scene.used()


def _refusal(answer: tuple[int, bytes]) -> str:
    status, content = answer
    assert status >= 400
    return str(canonical.decode(content)[2])


def test_a_replayed_answer_is_no_answer(scene: Scene) -> None:
    giver = scene.giver
    answer = _ask(scene, giver.grant("bank1"))
    data = answer.content
    giver.verify("bank1", data)
    scene.used()

    def code(bank: str = "bank1", **changes: Any) -> str:
        with pytest.raises(VerificationError) as caught:
            giver.verify(bank, data, changes.pop("query", None), **changes)
        return caught.value.code

    assert code("bank2") == "consent_recipient_mismatch"
    assert code(query=giver.query(to_period="2025-11")) == "query_mismatch"
    assert code(query=scene.other.query()) == "consent_subject_mismatch"
    assert code(now_ms=now_ms() + 3_600_000) == "checkpoint_stale"
    # Under a consent of its own, bank2 can't pass it off as what it was shown.
    own = giver.grant("bank2")
    value = canonical.decode(data)
    value[2] = own.raw
    with pytest.raises(VerificationError) as caught:
        giver.verify("bank2", canonical.encode(value))
    assert caught.value.code in ("map_proof_invalid", "consent_mismatch", "prefix_incomplete")


def test_no_peer_verb_gives_anything(scene: Scene) -> None:
    """Every verb of the custodian's node, with what a bank could make up."""
    source = (Path(__file__).parents[2] / "src" / "taxledger" / "nodes").rglob("*.py")
    verbs = set(re.findall(
        r'"([a-z_]+)": (?:(?:self|partial)[\w.(]*on_|\w+_handler\()|handlers\["([a-z_]+)"\]',
        "".join(path.read_text("utf-8") for path in source),
    ))  # fmt: skip
    names = {first or second for first, second in verbs} | {"dossier", "records", "vault"}
    assert names >= {"disclose", "piece", "cosign", "votes", "submit", "log_signature", "authority"}
    assert names >= {"grant", "permit", "erase_notice"}
    query = scene.giver.query().as_list()
    drafts, record = _drafts(scene), _a_record(scene)
    for verb in sorted(names):
        for message in (
            [1, verb],
            [1, verb, *query],
            [1, verb, query],
            [1, verb, bytes(16), bytes(32), query, bytes(16)],
            [1, verb, 1],
            *([1, verb, each.raw] for each in (drafts["signed by the bank"], drafts["for another bank"])),
            *([1, verb, each.id(1), 1, [record], now_ms() + 600_000] for each in drafts.values()),
            *([1, verb, each.id(1), 1, 0] for each in drafts.values()),
            {"subject": SUBJECT},
            None,
        ):
            _status, content = scene.peer("bank1", verb, message)
            scene.innocent(content, verb)
    assert not scene.granted() & _ungranted(drafts)
    scene.no_new_use("peer verbs")


def test_a_bank_hands_in_what_the_subject_signed_for_it_only(scene: Scene) -> None:
    """Forwarding saves the subject a way to each custodian; it makes nothing of what the subject did not sign."""
    giver, own = scene.giver, scene.giver.artefact("bank1")
    forged, foreign = sign_artefact(own.terms, Signer(os.urandom(32))), giver.artefact("bank2")

    def forward(artefact: Artefact) -> httpx.Response:
        body = {"artefact": base64.b64encode(artefact.raw).decode()}
        return scene.network.request("POST", "bank1", "/v1/consents/forward", json=body)

    assert [each["code"] for each in answered(forward(forged))["failures"]] == ["consent_key_unknown"]
    assert code_of(forward(foreign)) == "consent_recipient_mismatch"
    for artefact, code in ((forged, "consent_key_unknown"), (foreign, "consent_recipient_mismatch")):
        assert _refusal(scene.peer("bank1", "grant", [1, "grant", artefact.raw])) == code
    assert not scene.granted() & {each.id(1).hex() for each in (own, forged, foreign)}
    assert answered(forward(own))["failures"] == []
    assert own.id(1).hex() in scene.granted()
    # What was taken back is not given again by handing it in again.
    answered(giver.order(own, "revoke"))
    forward(own)
    answer = _ask(scene, own)
    assert code_of(answer) == "consent_revoked"
    scene.innocent(answer.content, "handed in again")
    scene.no_new_use("forwarding")


def test_no_permit_but_for_a_use_that_the_subject_let_be_pledged(scene: Scene) -> None:
    giver = scene.giver
    viewed, pledgeable = giver.grant("bank1"), giver.grant("bank1", may_pledge=True)
    shown = giver.verify("bank1", _ask(scene, viewed).content)
    scene.used()
    keys = sorted(each.key for each in shown.answer.records)[:3]

    def refused(bank: str, artefact: Artefact) -> str:
        message = [1, "permit", artefact.id(1), 1, keys, now_ms() + 600_000]
        status, content = scene.peer(bank, "permit", message)
        scene.innocent(content, "permit")
        return _refusal((status, content))

    assert refused("bank1", viewed) == "pledge_not_consented"
    assert refused("bank1", pledgeable) == "record_not_disclosed"
    assert refused("bank2", pledgeable) == "consent_recipient_mismatch"
    assert refused("bank1", giver.artefact("bank1", may_pledge=True)) == "consent_unknown"
    answered(giver.order(pledgeable, "revoke"))
    assert refused("bank1", pledgeable) in ("consent_revoked", "record_not_disclosed")
    scene.no_new_use("permits")


# --- every route, every command ------------------------------------------------------------------


def _drafts(scene: Scene) -> dict[str, Artefact]:
    """Signed artefacts with which a bank may try; only the second one was granted, and to another."""
    own = scene.giver.artefact("bank1")
    return {
        "signed by the bank": sign_artefact(own.terms, Signer(os.urandom(32))),
        "for another bank": scene.giver.grant("bank2"),
        "not handed in": own,
    }


def _ungranted(drafts: dict[str, Artefact]) -> set[str]:
    return {drafts[name].id(1).hex() for name in ("signed by the bank", "not handed in")}


def _a_record(scene: Scene) -> bytes:
    """The key of a record, which anybody sees on the ledger."""
    records = answered(scene.network.get("bank1", "/v1/state?prefix=01"))["entries"][0]["pairs"]
    return bytes.fromhex(records[0][0])


def _permit_of_its_own(scene: Scene, record: bytes) -> bytes:
    """A permit that the bank itself signed."""
    terms = {"record_key": record, "version": 1, "fingerprint": bytes(16), "lender": 2}
    signer = Signer(os.urandom(32))
    made = sign_permit(signer, scene.network.chain_id, not_after=now_ms() + 600_000, **terms)
    return encode_permit(made)


_HANDS_IN = "/v1/consents/forward"
"""What the subject signed for this bank is granted by it, as it should be: see the test of it above."""
_VALUES = {
    "subject": SUBJECT,
    "issuer": 1,
    "kinds": [INVOICES],
    "from": "2025-01",
    "to": "2025-12",
    "reason": "because",
    "sequence": 1,
    "public_key": "00" * 32,
    "authentication": "none",
    "preimage": "00" * 32,
    "wait": "none",
    "prefix": "01",
    "path": "0/000.p/1",
    "id": "00" * 32,
    "after": "0",
    "ppm": 1_000_000,
    "nonce": "00" * 16,
    "pledge": "00" * 16,
}


def _values(scene: Scene, artefact: Artefact) -> dict[str, Any]:
    """What fits the fields of any body and path, by name."""
    record = _a_record(scene)
    raw = base64.b64encode(artefact.raw).decode()
    return {
        **_VALUES,
        "key": record.hex(),
        "hexkey": record.hex(),
        "records": [record.hex()],
        "keys": [{"issuer": 1, "fingerprint": "00" * 16}],
        "consent": artefact.id(1).hex(),
        **dict.fromkeys(("artefact", "instruction", "transaction"), raw),
        "permit": base64.b64encode(_permit_of_its_own(scene, record)).decode(),
        "not_after": now_ms() + 600_000,
    }


@pytest.mark.parametrize("draft", ["signed by the bank", "for another bank", "not handed in"])
def test_no_route_gives_anything(scene: Scene, draft: str) -> None:
    """Every route of a bank's node, with a key of every scope, filled with what fits."""
    document = answered(scene.network.get("bank1", "/v1/openapi.json"))
    drafts = _drafts(scene)
    asked = 0
    for path, methods in document["paths"].items():
        if (path, draft) == (_HANDS_IN, "not handed in"):
            continue
        values = _values(scene, drafts[draft])
        if path == "/v1/dossiers":
            values["consent"] = values["artefact"]
        for method, operation in methods.items():
            url = re.sub(r"\{(\w+)\}", lambda found, values=values: str(values[found[1]]), path)
            params = [
                (each["name"], str(values[each["name"]]))
                for each in operation.get("parameters", [])
                if each["in"] == "query" and each["name"] in values
            ]
            content = operation.get("requestBody", {}).get("content", {})
            properties = content.get("application/json", {}).get("schema", {}).get("properties", {})
            assert set(properties) <= set(values), f"{path}: say here what fits its new fields"
            for filled in ({name: values[name] for name in properties}, values, {}):
                if method == "get" and filled:
                    continue
                asked += 1
                scene.innocent(_said(scene, method, url, params, filled), f"{method} {path}")
    assert asked > 60
    assert not scene.granted() & _ungranted(drafts)
    scene.no_new_use("routes")


def _said(scene: Scene, method: str, url: str, params: list[tuple[str, str]], body: dict[str, Any]) -> bytes:
    """All that a route of the bank's node answers; of a stream, up to the first block."""
    client = scene.network.homes["bank1"].client()
    with (
        httpx.Client(timeout=20) as http,
        http.stream(
            method.upper(),
            client.url + url,
            params=params,
            headers={"Authorization": f"Bearer {client.key}"},
            json=body if method != "get" else None,
        ) as answer,
    ):
        got = b""
        for piece in answer.iter_bytes():
            got += piece
            if url == "/v1/events" and b"block.certified" in got:
                break
    return got


_NOT_RUN = {
    "demo": "makes a network of its own",
    "network create": "makes a network of its own",
    "network start": "starts nodes",
    "network stop": "stops nodes",
    "engine install": "builds a program",
    "engine run": "becomes the engine where the network has one; refused at once elsewhere (test_engine_files)",
    "lend serve": "goes on until it is stopped",
}
_FLAGS = {"lend watch": ["--once"], "lend apply": ["--yes"]}
"""Without which a command goes on until it is stopped, or asks."""
_FILLED: dict[str, Callable[[Scene, Artefact], object] | None] = {
    "home": lambda scene, _: scene.network.homes["bank1"].path,
    "subject": lambda *_: SUBJECT,
    "kind": lambda *_: "vat_invoice",
    "kinds": lambda *_: "vat_invoice",
    **dict.fromkeys(("from_period", "begin", "first_month"), lambda *_: "2025-01"),
    **dict.fromkeys(("to_period", "end", "last_month"), lambda *_: "2025-12"),
    "output": lambda scene, _: scene.folder / "out.bin",
    "record": lambda scene, _: _a_record(scene).hex(),
    "key": lambda scene, _: _a_record(scene).hex(),
    "directory": lambda scene, _: scene.network.directory,
    "policy": lambda scene, _: scene.network.directory / "policy.txt",
    "reason": lambda *_: "because",
    "source": lambda *_: "cumcm",
    "issuer": lambda *_: "1",
    "to": lambda *_: "bank1",
    "wallet": lambda scene, _: scene.folder / "bank.wallet",
    "consent": lambda _, artefact: artefact.id(1).hex(),
    "pledge": lambda *_: "00" * 16,
    "fingerprint": lambda *_: "00" * 16,
    "number": lambda *_: "1",
    "loan": lambda *_: "L-1",
    "lend apply consent": None,  # it signs one with its wallet
    "lend apply id": lambda *_: "L-1",
    "lend report output": lambda scene, _: scene.folder / "report.html",
    "lend key create name": lambda *_: "portal",
    "lend key create scope": lambda *_: "lend_apply",
    "product": lambda *_: "invoice",
    "consent grant until": lambda *_: "2025-12",
    "consent supersede until": lambda *_: "2025-12",
    "member show name": lambda *_: "bank2",
    "pledge permit disclosure": lambda scene, _: scene.folder / "bank2.disclosure",
    "evidence get consent": lambda scene, _: scene.folder / "forged.consent",
    "consent show file": lambda scene, _: scene.folder / "forged.consent",
    "wallet create file": lambda scene, _: scene.folder / "other.wallet",
    "wallet show file": lambda scene, _: scene.folder / "bank.wallet",
    "wallet renew file": lambda scene, _: scene.folder / "bank.wallet",
    "vault rotate-key to": lambda *_: "file",
    "lend products export directory": lambda scene, _: scene.folder / "products",
    "generate directory": lambda scene, _: scene.folder / "made",
    "generate enterprises": lambda *_: "2",
}
"""What fits an argument or option of this name, or of one command: from the scene, and an artefact that the bank itself
signed in the enterprise's name. It has made itself a wallet in that name, too, and holds an answer to another bank."""


def _commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), command


def _arguments(scene: Scene, forged: Artefact, words: tuple[str, ...], command: click.Command) -> list[str]:
    """All that a command takes and the table above fills, and what it can't do without."""
    arguments = list(_FLAGS.get(" ".join(words), ()))
    for parameter in command.params:
        name = parameter.name or ""
        fill = _FILLED.get(" ".join((*words, name)), _FILLED.get(name))
        if parameter.param_type_name == "argument":
            arguments.append(str(fill(scene, forged)) if fill else str(scene.folder / "e.evidence"))
        elif (parameter.required or fill) and not getattr(parameter, "is_flag", False):
            arguments += [parameter.opts[-1], str(fill(scene, forged)) if fill else "1"]
    return arguments


def test_no_command_gives_anything(
    scene: Scene, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of the command line at a bank's home, filled with what fits; what it prints and writes."""
    drafts = _drafts(scene)
    forged, foreign = drafts["signed by the bank"], drafts["for another bank"]
    (scene.folder / "bank2.disclosure").write_bytes(_ask(scene, foreign, bank="bank2").content)
    scene.used()
    (scene.folder / "forged.consent").write_bytes(forged.raw)
    assert main(["wallet", "create", str(scene.folder / "bank.wallet"), "--subject", SUBJECT]) == 0
    monkeypatch.chdir(scene.folder)
    held = scene.granted()
    before = _written(scene)
    ran = 0
    report = io.StringIO()
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        for words, command in _commands(typer.main.get_command(app)):
            if " ".join(words) in _NOT_RUN:
                continue
            capfd.readouterr()
            status = main([*words, *_arguments(scene, forged, words, command)])
            said = capfd.readouterr()
            ran += 1
            scene.innocent((said.out + said.err).encode(), " ".join(words))
            assert "bug of ours" not in said.err, (words, said.err)
            written = _written(scene)
            for path in written - before:
                scene.innocent(path.read_bytes(), f"{words} wrote {path}")
            before = written
            print(*words, status, (said.out + said.err)[-200:], file=report)
    print(report.getvalue())
    assert ran > 50
    assert scene.granted() == held
    scene.no_new_use("commands")


def _written(scene: Scene) -> set[Path]:
    """Files that commands wrote, outside the members' homes."""
    found = {path for path in scene.folder.rglob("*") if path.is_file()}
    return {path for path in found if not path.is_relative_to(scene.network.directory)}


def test_the_search_would_have_found_it(scene: Scene) -> None:
    """What a consent shows is what the searches above look for."""
    answer = _ask(scene, scene.giver.grant("bank1"))
    with pytest.raises(AssertionError):
        scene.innocent(answer.content, "shown under a consent")
    with pytest.raises(AssertionError):
        scene.innocent(json.dumps(secretless(answer.content)).encode(), "as text")
    scene.used()


def secretless(data: bytes) -> list[Any]:
    """Field values of a disclosure, as a program would print them."""
    try:
        return [canonical.decode(part)[4] for part in decode_disclosure(data).parts]
    except TaxledgerError as error:  # not a disclosure
        raise AssertionError(str(error)) from error


def test_artefacts_of_this_test_are_what_they_seem(scene: Scene) -> None:
    artefact = scene.giver.artefact("bank1")
    assert decode_artefact(artefact.raw) == artefact
