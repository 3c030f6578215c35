"""An enterprise's wallet: its key, its secret, and every artefact it signed. One file of mode 0600.

The *key* signs artefacts and instructions; the custodian has its public half registered. The *secret* finds the
enterprise's consents on the ledger and gives the preimages that revoke them: nobody else has it, not even the
custodian. A lost key is replaced (``renew``); a lost secret can't be: its consents are then known to the
custodian only, and end there.

Durability: an artefact is in the file, synced, before it is handed to anybody, so that whatever was granted can be
revoked; and so is an instruction's number before the instruction leaves, so that none is used twice.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from taxledger.api.custody import ConsentReceipt
from taxledger.ledger.consent import Artefact, ConsentTerms, decode_artefact, revoke_preimage, sign_artefact
from taxledger.ledger.crypto import Signer, check_public_key
from taxledger.ledger.errors import FormatError, InputError, UnavailableError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.instruction import ConsentOrder, Instruction, sign_instruction
from taxledger.ledger.records import check_subject, parse_subject
from taxledger.nodes.enterprise.passphrase import open_sealed, seal
from taxledger.nodes.home import place_file, read_secret

__all__ = ["KeptConsent", "Wallet", "create_wallet", "is_sealed", "open_wallet"]

_FORMAT = "taxledger/wallet/1"
_FILE_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConsent:
    """An artefact that this wallet signed, or got back from its custodian.

    Attributes:
        artefact: with the terms.
        notice: the text that was shown; None where it is not known.
        numbers: of the last instruction, by consent id.
        receipts: what became of it, oldest first.
    """

    artefact: Artefact
    notice: str | None
    numbers: Mapping[bytes, int] = field(default_factory=dict)
    receipts: tuple[ConsentReceipt, ...] = ()

    def ids(self) -> dict[bytes, int]:
        """Consent id -> custodian, for each custodian it names."""
        return {self.artefact.id(each.member): each.member for each in self.artefact.terms.custodians}


@dataclass(slots=True, kw_only=True)
class _Content:
    """What the file holds, decoded."""

    subject: str
    public_key: bytes
    former_keys: list[bytes]
    sealed: dict[str, Any] | None
    private: bytes | None = field(repr=False)
    """Key and secret, 64 bytes; None while they are sealed."""
    consents: list[KeptConsent]


class Wallet:
    """An open wallet; made by ``create_wallet`` and ``open_wallet``."""

    def __init__(self, path: Path, content: _Content, passphrase: str | None) -> None:
        self._path = path
        self._content = content
        self._passphrase = passphrase

    def __repr__(self) -> str:
        return f"Wallet({str(self._path)!r})"

    @property
    def subject(self) -> str:
        return self._content.subject

    @property
    def public_key(self) -> bytes:
        """32 bytes; the custodian has to know it."""
        return self._content.public_key

    @property
    def former_keys(self) -> tuple[bytes, ...]:
        """Public keys that ``renew`` replaced, oldest first."""
        return tuple(self._content.former_keys)

    @property
    def is_sealed(self) -> bool:
        """Whether the file is under a passphrase."""
        return self._content.sealed is not None

    @property
    def consents(self) -> tuple[KeptConsent, ...]:
        """In the order in which they were signed."""
        return tuple(self._content.consents)

    def _private(self) -> bytes:
        if self._content.private is None:
            if self._passphrase is None:
                raise InputError("the wallet is under a passphrase: give it")
            associated = _associated(self._content.subject, self._content.public_key)
            private = open_sealed(self._passphrase, self._content.sealed, associated)
            self._content.private = _check_private(private, self._content.public_key)
        return self._content.private

    @property
    def subject_secret(self) -> bytes:
        """32 bytes that find this enterprise's consents. Raises InputError: no passphrase, or another."""
        return self._private()[32:]

    def _signer(self) -> Signer:
        return Signer(self._private()[:32])

    # --- signing --------------------------------------------------------------------------------

    def sign(self, terms: ConsentTerms, notice: str) -> Artefact:
        """The artefact of these terms, kept durably before it is returned.

        Raises:
            InputError: terms of another subject, with another notice, or that no reader would take.
        """
        if terms.subject != self.subject:
            raise InputError("the terms are another subject's")
        if terms.notice_digest != sha256(notice.encode()):
            raise InputError("the terms have the digest of another notice")
        artefact = sign_artefact(terms, self._signer())
        self._content.consents.append(KeptConsent(artefact=artefact, notice=notice))
        self._save()
        return artefact

    def use_key(self, act: Callable[[Signer], bytes]) -> bytes:
        """What ``act`` signs with the subject's key, like the acceptance of a loan; it must not keep the key."""
        return act(self._signer())

    def order(self, consent: bytes, action: str, *, now_ms: int) -> Instruction:
        """A signed instruction about a consent; its number is durable before it is returned.

        The number is the present millisecond, or one more than the last: it rises also after a wallet was lost
        and its consents were taken over by another.

        Raises:
            InputError: the consent is not in this wallet.
        """
        at, kept = self._find(consent)
        number = max(now_ms, kept.numbers.get(consent, 0) + 1)
        instruction = sign_instruction(
            ConsentOrder(
                chain_id=kept.artefact.terms.chain_id,
                consent=consent,
                action=action,
                number=number,
                issued=now_ms,
            ),
            self._signer(),
        )
        self._content.consents[at] = replace(kept, numbers={**kept.numbers, consent: number})
        self._save()
        return instruction

    def preimage(self, consent: bytes) -> bytes:
        """The 32 bytes that revoke a consent at any member's node. Raises InputError: not in this wallet."""
        _, kept = self._find(consent)
        custodian = kept.ids()[consent]
        return revoke_preimage(self.subject_secret, kept.artefact.terms.nonce, custodian)

    # --- what is kept ---------------------------------------------------------------------------

    def find(self, consent: bytes) -> KeptConsent:
        """The artefact of a consent. Raises InputError: not in this wallet."""
        return self._find(consent)[1]

    def _find(self, consent: bytes) -> tuple[int, KeptConsent]:
        for at, kept in enumerate(self._content.consents):
            if consent in kept.ids():
                return at, kept
        raise InputError(f"this wallet has no consent {consent.hex()}")

    def keep_receipt(self, receipt: ConsentReceipt) -> None:
        """Keep what became of a consent; the same again is kept once."""
        at, kept = self._find(receipt.consent)
        if receipt not in kept.receipts:
            self._content.consents[at] = replace(kept, receipts=(*kept.receipts, receipt))
            self._save()

    def adopt(self, artefact: Artefact) -> bool:
        """Take over an artefact that the custodian has and this wallet lost; whether it was new.

        Raises:
            InputError: another subject's.
        """
        if artefact.terms.subject != self.subject:
            raise InputError("the artefact is another subject's")
        if any(kept.artefact.raw == artefact.raw for kept in self._content.consents):
            return False
        self._content.consents.append(KeptConsent(artefact=artefact, notice=None))
        self._save()
        return True

    # --- the key --------------------------------------------------------------------------------

    def renew(self) -> bytes:
        """Replace the key by a new one; its public half, for the custodian to register. The secret stays.

        The former private key is gone afterwards: what it signed stays good, nothing new can be signed with it.
        """
        secret = self.subject_secret
        private = os.urandom(32)
        self._content.former_keys.append(self._content.public_key)
        self._content.public_key = Signer(private).public_key
        self._content.private = private + secret
        if self._content.sealed is not None:
            self._content.sealed = {}
        self._save()
        return self._content.public_key

    def _save(self) -> None:
        place_file(self._path, _encode(self._content, self._passphrase))


# --- files ----------------------------------------------------------------------------------------


def create_wallet(path: Path, subject: str, *, passphrase: str | None = None) -> Wallet:
    """A new wallet with a new key and a new secret.

    Args:
        path: of a file that does not exist yet.
        subject: the enterprise, a credit code or ``scheme:identifier``.
        passphrase: seals key and secret; None to rely on the file's mode alone.

    Raises:
        InputError: the file exists, or it is no subject.
    """
    subject = parse_subject(subject)
    if path.exists():
        raise InputError(f"{path}: exists already; a wallet is never written over")
    private = os.urandom(64)
    content = _Content(
        subject=subject,
        public_key=Signer(private[:32]).public_key,
        former_keys=[],
        sealed=None if passphrase is None else {},
        private=private,
        consents=[],
    )
    wallet = Wallet(path, content, passphrase)
    wallet._save()
    return wallet


@contextmanager
def open_wallet(path: Path, *, passphrase: str | None = None) -> Iterator[Wallet]:
    """A wallet, for one process at a time.

    Raises:
        InputError: no such file, others can read it, or another passphrase (when it is first needed).
        FormatError: it is no wallet.
        UnavailableError: another process has it open.
    """
    with _locked(path):
        data = read_secret(path)
        if len(data) > _FILE_BYTES_MAX:
            raise FormatError(f"{path}: expected at most {_FILE_BYTES_MAX} bytes")
        try:
            content = _decode(data)
        except (InputError, VerificationError) as error:
            raise FormatError(f"{path}: not a wallet: {error}") from error
        yield Wallet(path, content, passphrase if content.sealed is not None else None)


def is_sealed(path: Path) -> bool:
    """Whether a wallet is under a passphrase. Raises as ``open_wallet``."""
    with open_wallet(path) as wallet:
        return wallet.is_sealed


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: two that read, change and write would lose what one of them signed."""
    if not path.is_file():
        raise InputError(f"{path}: no such wallet; taxledger wallet create makes one")
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UnavailableError(f"{path}: another process has this wallet open") from error
        yield
    finally:
        os.close(lock)


def _associated(subject: str, public_key: bytes) -> bytes:
    return f"{_FORMAT}\n{subject}\n".encode() + public_key


def _check_private(private: bytes, public_key: bytes) -> bytes:
    if len(private) != 64 or Signer(private[:32]).public_key != public_key:
        raise FormatError("expected the private key of the wallet's public one, and a secret of 32 bytes")
    return private


def _encode(content: _Content, passphrase: str | None) -> bytes:
    private: dict[str, Any]
    if content.sealed is not None:
        if not content.sealed:  # new, or renewed: the seal is bound to the public key
            associated = _associated(content.subject, content.public_key)
            content.sealed = seal(passphrase or "", content.private or b"", associated)
        private = {"sealed": content.sealed}
    else:
        held = content.private or b""
        private = {"key": held[:32].hex(), "subject_secret": held[32:].hex()}
    document = {
        "format": _FORMAT,
        "subject": content.subject,
        "public_key": content.public_key.hex(),
        "former_keys": [each.hex() for each in content.former_keys],
        "private": private,
        "consents": [_kept_as_json(each) for each in content.consents],
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _kept_as_json(kept: KeptConsent) -> dict[str, Any]:
    return {
        "artefact": base64.b64encode(kept.artefact.raw).decode(),
        "notice": kept.notice,
        "numbers": {consent.hex(): number for consent, number in kept.numbers.items()},
        "receipts": [
            {
                "consent": each.consent.hex(),
                "status": each.status,
                "transaction": each.transaction.hex(),
                "height": each.height,
                "index": each.index,
                "time_ms": each.time_ms,
            }
            for each in kept.receipts
        ],
    }


def _decode(data: bytes) -> _Content:
    try:
        value = json.loads(data)
        if value["format"] != _FORMAT:
            raise FormatError(f"expected the format {_FORMAT}")
        private, sealed = value["private"], None
        public_key = bytes.fromhex(value["public_key"])
        if "sealed" in private:
            sealed, held = dict(private["sealed"]), None
        else:
            held = bytes.fromhex(private["key"]) + bytes.fromhex(private["subject_secret"])
            _check_private(held, public_key)
        check_subject(value["subject"])
        check_public_key(public_key)
        return _Content(
            subject=value["subject"],
            public_key=public_key,
            former_keys=[bytes.fromhex(each) for each in value["former_keys"]],
            sealed=sealed,
            private=held,
            consents=[_kept_of_json(each) for each in value["consents"]],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        # Not the error's text: it may quote a part of the file.
        raise FormatError(f"a {type(error).__name__} at what was expected") from None


def _kept_of_json(value: dict[str, Any]) -> KeptConsent:
    return KeptConsent(
        artefact=decode_artefact(base64.b64decode(value["artefact"], validate=True)),
        notice=value["notice"],
        numbers={bytes.fromhex(consent): int(number) for consent, number in value["numbers"].items()},
        receipts=tuple(
            ConsentReceipt(
                consent=bytes.fromhex(each["consent"]),
                status=each["status"],
                transaction=bytes.fromhex(each["transaction"]),
                height=each["height"],
                index=each["index"],
                time_ms=each["time_ms"],
            )
            for each in value["receipts"]
        ),
    )
