"""The enterprise's wallet: what it signs is kept first, what it keeps can revoke, and nobody else can open it."""

from __future__ import annotations

import base64
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from taxledger.api.custody import ConsentReceipt
from taxledger.ledger.consent import Artefact, Detail, PredicateTerms, decode_artefact, holder_of
from taxledger.ledger.consentstate import revoke_hash_of
from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.instruction import decode_instruction
from taxledger.ledger.kinds import KINDS
from taxledger.nodes.enterprise.passphrase import open_sealed, seal
from taxledger.nodes.enterprise.terms import Wish, make_terms
from taxledger.nodes.enterprise.wallet import Wallet, create_wallet, open_wallet
from taxledger.nodes.enterprise.wording import KINDS_ZH, notice_text

SUBJECT = "uscc:91110101MA00000005"
NOW_MS = 1_767_225_600_000
NAMES = {1: "tax", 2: "bank1"}
INVOICES = Detail(kind=5, from_period="2024-01", to_period="2024-12", fields=("date", "net"))


def sign(wallet: Wallet, number: int = 1, **changes: Any) -> Artefact:
    wish = Wish(**{"recipient": 2, "custodians": {1: None}, "details": [INVOICES]} | changes)
    terms, notice = make_terms(
        wish,
        subject=wallet.subject,
        subject_secret=wallet.subject_secret,
        chain_id=bytes(16),
        nonce=sha256(b"nonce %d" % number),
        now_ms=NOW_MS,
        names=NAMES,
    )
    return wallet.sign(terms, notice)


@pytest.fixture(params=[None, "correct horse 电池"])
def passphrase(request: pytest.FixtureRequest) -> str | None:
    return request.param


def test_a_wallet_from_creation_to_revocation(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "acme.wallet"
    made = create_wallet(path, SUBJECT, passphrase=passphrase)
    assert path.stat().st_mode & 0o777 == 0o600
    with open_wallet(path, passphrase=passphrase) as wallet:
        artefact = sign(wallet)
        secret = wallet.subject_secret
    with open_wallet(path, passphrase=passphrase) as wallet:
        assert (wallet.subject, wallet.public_key) == (SUBJECT, made.public_key)
        assert wallet.subject_secret == secret
        (kept,) = wallet.consents
        assert kept.artefact == artefact
        assert kept.notice is not None
        assert sha256(kept.notice.encode()) == artefact.terms.notice_digest
        assert artefact.terms.holder == holder_of(secret, 2)
        consent = artefact.id(1)
        assert revoke_hash_of(wallet.preimage(consent)) == artefact.terms.custodian(1).revoke_hash
        with pytest.raises(InputError, match="no consent"):
            wallet.preimage(bytes(16))


def test_numbers_rise_whatever_the_clock_does(tmp_path: Path) -> None:
    path = tmp_path / "w"
    create_wallet(path, SUBJECT)
    numbers = []
    for now_ms in (NOW_MS, NOW_MS, NOW_MS - 5_000, NOW_MS + 9):
        with open_wallet(path) as wallet:
            consent = (wallet.consents[0].artefact if wallet.consents else sign(wallet)).id(1)
            raw = wallet.order(consent, "pause", now_ms=now_ms).raw
        order = decode_instruction(raw).order
        assert (order.consent, order.action, order.chain_id) == (consent, "pause", bytes(16))
        numbers.append(order.number)
    assert numbers == [NOW_MS, NOW_MS + 1, NOW_MS + 2, NOW_MS + 9]


def test_what_is_returned_was_durable_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file can't be written, nothing is handed out that could be used without it."""
    path = tmp_path / "w"
    create_wallet(path, SUBJECT)

    def full(*_: object, **__: object) -> None:
        raise UnavailableError("no space")

    with open_wallet(path) as wallet:
        consent = sign(wallet).id(1)
        monkeypatch.setattr("taxledger.nodes.enterprise.wallet.place_file", full)
        for act in (
            lambda: sign(wallet, 2),
            lambda: wallet.order(consent, "revoke", now_ms=NOW_MS),
            wallet.renew,
        ):
            with pytest.raises(UnavailableError):
                act()
    with open_wallet(path) as wallet:
        assert len(wallet.consents) == 1
        assert wallet.former_keys == ()


def test_a_renewed_key_signs_and_the_secret_stays(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "w"
    create_wallet(path, SUBJECT, passphrase=passphrase)
    with open_wallet(path, passphrase=passphrase) as wallet:
        first, secret, former = sign(wallet), wallet.subject_secret, wallet.public_key
        fresh = wallet.renew()
        assert fresh != former
    with open_wallet(path, passphrase=passphrase) as wallet:
        assert (wallet.public_key, wallet.former_keys, wallet.subject_secret) == (fresh, (former,), secret)
        assert sign(wallet, 2).public_key == fresh
        assert wallet.order(first.id(1), "revoke", now_ms=NOW_MS).public_key == fresh
        assert revoke_hash_of(wallet.preimage(first.id(1))) == first.terms.custodian(1).revoke_hash


def test_a_new_wallet_takes_over_what_the_custodian_has(tmp_path: Path) -> None:
    create_wallet(tmp_path / "old", SUBJECT)
    create_wallet(tmp_path / "new", SUBJECT)
    create_wallet(tmp_path / "other", "cumcm:E14")
    with open_wallet(tmp_path / "old") as old:
        artefact = sign(old)
    with open_wallet(tmp_path / "new") as new:
        assert new.adopt(artefact)
        assert not new.adopt(artefact)
        assert (
            decode_instruction(new.order(artefact.id(1), "revoke", now_ms=NOW_MS).raw).order.action
            == "revoke"
        )
        # The secret is another: it can't find the consent, nor give its preimage.
        assert holder_of(new.subject_secret, 2) != artefact.terms.holder
        assert revoke_hash_of(new.preimage(artefact.id(1))) != artefact.terms.custodian(1).revoke_hash
    with open_wallet(tmp_path / "other") as other, pytest.raises(InputError, match="another subject"):
        other.adopt(artefact)


def test_receipts_are_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "w"
    create_wallet(path, SUBJECT)
    with open_wallet(path) as wallet:
        consent = sign(wallet).id(1)
        receipt = ConsentReceipt(
            consent=consent, status="active", transaction=bytes(32), height=5, index=9, time_ms=NOW_MS
        )
        wallet.keep_receipt(receipt)
        wallet.keep_receipt(receipt)
    with open_wallet(path) as wallet:
        assert wallet.find(consent).receipts == (receipt,)


def test_only_its_own_terms_with_their_own_notice(tmp_path: Path) -> None:
    wallet = create_wallet(tmp_path / "w", SUBJECT)
    other = create_wallet(tmp_path / "o", "cumcm:E14")
    terms = sign(wallet).terms
    with pytest.raises(InputError, match="another subject"):
        other.sign(terms, "x")
    with pytest.raises(InputError, match="another notice"):
        wallet.sign(terms, "x")
    assert len(wallet.consents) == 1


# --- who can open it ------------------------------------------------------------------------


def test_the_passphrase_is_needed_for_secrets_only(tmp_path: Path) -> None:
    path = tmp_path / "w"
    made = create_wallet(path, SUBJECT, passphrase="one")
    text = path.read_text("utf-8")
    assert made._content.private is not None
    for secret in (made._content.private[:32], made.subject_secret):
        for form in (secret.hex(), base64.b64encode(secret).decode(), base64.b64encode(secret).decode()[:-4]):
            assert form not in text
    with open_wallet(path) as wallet:
        assert (wallet.public_key, wallet.is_sealed) == (made.public_key, True)
        with pytest.raises(InputError, match="give it"):
            _ = wallet.subject_secret
    for wrong in ("two", "", "One"):
        with open_wallet(path, passphrase=wrong) as wallet, pytest.raises(InputError, match="does not open"):
            _ = wallet.subject_secret
    # What needs no secret keeps the seal as it is.
    with open_wallet(path, passphrase="one") as wallet:
        artefact = sign(wallet)
    sealed = json.loads(path.read_bytes())["private"]
    with open_wallet(path) as wallet:
        wallet.keep_receipt(
            ConsentReceipt(
                consent=artefact.id(1), status="active", transaction=bytes(32), height=1, index=1, time_ms=1
            )
        )
    assert json.loads(path.read_bytes())["private"] == sealed


def test_the_seal_is_bound_to_subject_and_key() -> None:
    sealed = seal("one", b"content", b"a")
    assert open_sealed("one", sealed, b"a") == b"content"
    with pytest.raises(InputError):
        open_sealed("one", sealed, b"b")
    for name in ("salt", "nonce", "sealed"):
        changed = sealed | {name: sealed[name][:-1] + ("0" if sealed[name][-1] != "0" else "1")}
        with pytest.raises(InputError):
            open_sealed("one", changed, b"a")
    for kdf in (
        ["scrypt", 2**21, 8, 1],
        ["scrypt", 3, 8, 1],
        ["scrypt", 2**15, 9, 1],
        ["pbkdf2", 2, 8, 1],
        [],
    ):
        with pytest.raises(FormatError):
            open_sealed("one", sealed | {"kdf": kdf}, b"a")
    with pytest.raises(FormatError):
        open_sealed("one", None, b"a")
    with pytest.raises(InputError, match="not empty"):
        seal("", b"content", b"a")


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w"
    create_wallet(path, SUBJECT)
    path.chmod(0o640)
    with pytest.raises(InputError, match="0600"), open_wallet(path):
        pass


def test_nothing_is_written_over(tmp_path: Path) -> None:
    create_wallet(tmp_path / "w", SUBJECT)
    with pytest.raises(InputError, match="exists"):
        create_wallet(tmp_path / "w", SUBJECT)
    with pytest.raises(InputError, match="no such wallet"), open_wallet(tmp_path / "none"):
        pass
    for bad in ("E14", "uscc:1", ""):
        with pytest.raises(InputError):
            create_wallet(tmp_path / "bad", bad)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda value: [],
        lambda value: value | {"format": "taxledger/wallet/2"},
        lambda value: value | {"subject": "E14"},
        lambda value: value | {"public_key": "00" * 32},
        lambda value: value | {"private": {"key": "11" * 32, "subject_secret": "22" * 32}},
        lambda value: value | {"private": {"key": "zz", "subject_secret": ""}},
        lambda value: value | {"private": None},
        lambda value: (
            value | {"consents": [{"artefact": "*", "notice": None, "numbers": {}, "receipts": []}]}
        ),
        lambda value: (
            value | {"consents": [{"artefact": "AA==", "notice": None, "numbers": {}, "receipts": []}]}
        ),
        lambda value: value | {"consents": 5},
    ],
)
def test_a_broken_file_is_refused_with_its_name(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "w"
    create_wallet(path, SUBJECT)
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    with pytest.raises(FormatError, match="not a wallet"), open_wallet(path):
        pass
    path.write_bytes(b"\xff{")
    with pytest.raises(FormatError, match="not a wallet"), open_wallet(path):
        pass


def _try_to_open(path: Path, answer: Any) -> None:
    try:
        with open_wallet(path):
            answer.put("opened")
    except UnavailableError:
        answer.put("busy")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "w"
    create_wallet(path, SUBJECT)
    context = multiprocessing.get_context("spawn")
    answers = []
    for hold in (True, False):
        queue = context.Queue()
        other = context.Process(target=_try_to_open, args=(path, queue))
        if hold:
            with open_wallet(path):
                other.start()
                answers.append(queue.get(timeout=30))
        else:
            other.start()
            answers.append(queue.get(timeout=30))
        other.join(30)
    assert answers == ["busy", "opened"]


# --- terms and notice -----------------------------------------------------------------------


def test_terms_follow_from_the_wish(tmp_path: Path) -> None:
    wallet = create_wallet(tmp_path / "w", SUBJECT)
    terms = sign(wallet).terms
    assert (terms.mode, terms.frequency, terms.max_uses, terms.retention_days) == ("view", "once", 1, 0)
    assert (terms.onward, terms.may_pledge, terms.issued) == ("prohibited", False, NOW_MS)
    assert terms.not_before < NOW_MS
    assert terms.not_after - NOW_MS == 30 * 86_400_000
    store = sign(
        wallet, 2, mode="store", retention_days=365, max_uses=12, custodians={3: None, 1: bytes(16)}
    ).terms
    assert [each.member for each in store.custodians] == [1, 3]
    assert store.frequency == "periodic"
    for wrong in (
        {"mode": "store"},
        {"retention_days": 5},
        {"details": ()},
        {"max_uses": 0},
        {"days": 4_000},
    ):
        with pytest.raises(InputError):
            sign(wallet, 3, **wrong)
    assert len(wallet.consents) == 2


def test_the_notice_says_in_both_languages_what_is_agreed(tmp_path: Path) -> None:
    wallet = create_wallet(tmp_path / "w", SUBJECT)
    artefact = sign(wallet, mode="store", retention_days=90, max_uses=4, may_pledge=True)
    notice = wallet.consents[0].notice or ""
    for said in (
        SUBJECT, "bank1", "tax", "增值税发票", "vat_invoice", "2024-01", "仅字段 date, net", "90 天", "90 days",
        "最多 4 次", "at most 4", "可以将记录登记为担保", "may register", "撤回", "withdraw",
    ):  # fmt: skip
        assert said in notice, said
    asked = sign(
        wallet,
        2,
        mode="proof_only",
        details=(),
        predicates=[
            PredicateTerms(name="net_sales_at_least", argument=500_000_000),
            PredicateTerms(name="grade_at_least", argument="B"),
            PredicateTerms(name="something_new", argument=5),
        ],
    )
    notice = wallet.consents[1].notice or ""
    for said in (
        "人民币 5,000,000.00 元",
        "CNY 5,000,000.00",
        "不低于 B",
        "something_new = 5",
        "得不到任何记录",
    ):
        assert said in notice, said
    # Another scope is another notice, so another digest.
    assert artefact.terms.notice_digest != asked.terms.notice_digest
    assert decode_artefact(asked.raw).terms.notice_digest == sha256(notice_text(asked.terms, NAMES).encode())


def test_every_kind_has_a_chinese_name() -> None:
    assert set(KINDS_ZH) == set(KINDS)


def test_an_error_shows_neither_passphrase_nor_key(tmp_path: Path) -> None:
    path = tmp_path / "acme.wallet"
    with pytest.raises(InputError) as refused:  # an environment gives bytes that are not UTF-8 like this
        create_wallet(path, SUBJECT, passphrase="correct horse \udcff")
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert not path.exists()
    wallet = create_wallet(path, SUBJECT)
    assert repr(wallet._content.private) not in repr(wallet._content)


def test_predicates_are_signed_in_the_order_that_readers_want(tmp_path: Path) -> None:
    wallet = create_wallet(tmp_path / "acme.wallet", SUBJECT)
    asked = [
        PredicateTerms(name="net_sales_at_least", argument=amount) for amount in (1_000, 999, 70_000, -5)
    ]
    terms = sign(wallet, mode="proof_only", details=[], predicates=asked).terms
    assert set(terms.predicates) == set(asked)
