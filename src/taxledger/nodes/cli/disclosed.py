"""Disclosures in the commands ``evidence get | verify | show``: asked for, verified, shown."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxledger.ledger import limits
from taxledger.ledger.errors import InputError, RefusedError
from taxledger.nodes.cli.consentshow import scope_text
from taxledger.nodes.cli.output import check_writable, connect, note, open_home, read_file, say, write_file

if TYPE_CHECKING:
    from taxledger.api.custody import DossierProgress
    from taxledger.ledger.consent import Artefact
    from taxledger.ledger.disclosure import Disclosed
    from taxledger.ledger.query import Query
    from taxledger.nodes.home import Home

__all__ = [
    "FILE_BYTES_MAX",
    "ask_under_consent",
    "disclosed_as_json",
    "is_disclosure",
    "parse_recipient",
    "question_of",
    "read_artefact",
    "say_about",
    "show_disclosure",
    "verify_bytes",
]

FILE_BYTES_MAX = limits.disclosure_bytes_max + 1
_PREFIX = b"\x99\x01\xaadisclosure"
"""An array of 9, the version, the word (docs/protocol.md §13)."""
_BAR_CHARACTERS = 30
_KEY_BYTES_MAX = 256


def is_disclosure(data: bytes) -> bool:
    """Whether a file says that it is a disclosure, not evidence alone."""
    return data.startswith(_PREFIX)


def read_artefact(path: Path) -> Artefact:
    """The artefact in a file. Raises InputError, or VerificationError ``consent_signature_invalid``."""
    from taxledger.ledger.consent import decode_artefact

    data = read_file(path, bytes_max=limits.consent_bytes_max)
    try:
        return decode_artefact(data)
    except InputError as error:
        raise InputError(f"{path}: expected a consent's artefact: {error}\n该文件不是授权文件") from error


def question_of(
    artefact: Artefact,
    *,
    subject: str | None,
    kinds: list[str] | None,
    from_period: str | None,
    to_period: str | None,
    issuer: int | None,
    issued: Mapping[int, Collection[int]] | None = None,
) -> Query:
    """The question of these options; what they leave out is what the consent covers. Raises InputError.

    Args:
        issued: the kinds that each custodian issues, by its number, where there are several: without kinds named, one
            is asked for its own.
    """
    from taxledger.ledger.consent import PREDICATE_KIND
    from taxledger.ledger.kinds import parse_kind
    from taxledger.ledger.query import Query
    from taxledger.ledger.records import parse_subject

    terms = artefact.terms
    asked = terms.custodians[0].member if issuer is None else issuer
    chosen = {parse_kind(each) for each in kinds or ()}
    if not chosen:
        covered = {each.kind for each in terms.details}
        chosen = covered.intersection(issued.get(asked, covered)) if issued else covered
    covering = [each for each in terms.details if each.kind in chosen]
    if not covering and (from_period is None or to_period is None):
        raise InputError("expected --from and --to: the consent names no period for these kinds")
    return Query(
        subject=terms.subject if subject is None else parse_subject(subject),
        issuer=asked,
        kinds=tuple(sorted(chosen or {PREDICATE_KIND})),
        # The part that all of the kinds have in common.
        from_period=from_period or max(each.from_period for each in covering),
        to_period=to_period or min(each.to_period for each in covering),
    )


def ask_under_consent(
    home_path: Path, query: Query, artefact: Artefact, output: Path
) -> tuple[bytes, Disclosed]:
    """The file and what it says, verified under the home's policy, and written.

    The request's name lies beside the output until the file is there: whoever runs the command again after it was
    cut off asks for the same use, which is counted once.

    Raises:
        VerificationError: what came back does not verify.
        RefusedError, UnavailableError: the custodian refused, or can't be reached; the file can't be written.
    """
    home = open_home(home_path)
    check_writable(output)  # or a use would be spent on nothing
    _check_recipient(home, artefact)
    pending = output.with_name(f".{output.name}.request")
    key = _request_key(pending, query, artefact)
    bar = _Bar()
    try:
        with connect(home) as client:
            data = client.disclosure(query, artefact.raw, on_progress=bar.show, request_key=key)
    except RefusedError:
        pending.unlink(missing_ok=True)  # decided: the next request is another one
        raise
    finally:
        bar.end()
    disclosed = verify_bytes(
        data,
        home.policy(),
        query,
        recipient=home.config.number,
        now_ms=time.time_ns() // 1_000_000,
        age_ms_max=limits.answer_age_ms_default,
    )
    # The file first: cut off in between, the command asks for the same use again.
    write_file(output, data, private=True)
    pending.unlink(missing_ok=True)
    return data, disclosed


def _check_recipient(home: Home, artefact: Artefact) -> None:
    from taxledger.ledger.genesis import chain_id

    if artefact.terms.chain_id != chain_id(home.genesis()):
        raise RefusedError("consent_chain_mismatch", "the consent is for another ledger than this home's")
    own, recipient = home.config.number, artefact.terms.recipient
    if own != recipient:
        raise RefusedError(
            "consent_recipient_mismatch", f"expected the home of member {recipient}, got that of member {own}"
        )


def _request_key(pending: Path, query: Query, artefact: Artefact) -> str:
    """The name of a request that was cut off, if it was for the same question; else a new one, kept."""
    from taxledger.ledger.hashing import sha256
    from taxledger.nodes.home import place_file

    asked = sha256(repr(query.as_list()).encode() + artefact.raw).hex()[:32]
    if pending.exists():
        kept = read_file(pending, bytes_max=_KEY_BYTES_MAX).decode("ascii", "replace").strip()
        if kept.startswith(asked) and kept.isprintable() and " " not in kept:
            note("going on with the request that was cut off 继续上次中断的请求")
            return kept
    key = f"{asked}-{secrets.token_hex(16)}"
    # Durable before the request is sent, or a crash here would cost a use.
    place_file(pending, key.encode() + b"\n")
    return key


class _Bar:
    """How far a disclosure is, on standard error, where that is a terminal."""

    def __init__(self) -> None:
        self._shown = False

    def show(self, progress: DossierProgress) -> None:
        if not sys.stderr.isatty():
            return
        done, total = progress.pieces_done, max(progress.pieces, 1)
        bar = ("█" * (_BAR_CHARACTERS * done // total)).ljust(_BAR_CHARACTERS, "·")
        records = f"{progress.records_done:,} of {progress.records:,} records 条记录"
        print(f"\r{bar} {records}", end="", file=sys.stderr, flush=True)
        self._shown = True

    def end(self) -> None:
        if self._shown:
            print(file=sys.stderr)


def verify_bytes(
    data: bytes,
    policy: bytes,
    query: Query,
    *,
    recipient: int,
    now_ms: int,
    age_ms_max: int,
    engine: str | None = None,
) -> Disclosed:
    """What a disclosure's bytes say, offline. Raises VerificationError, or InputError for the policy."""
    from taxledger.ledger.disclosure import verify_disclosure
    from taxledger.ledger.policy import decode_policy

    return verify_disclosure(
        data,
        decode_policy(policy),
        query,
        recipient=recipient,
        now_ms=now_ms,
        age_ms_max=age_ms_max,
        engine=engine,
    )


def parse_recipient(text: str | None, home: Path | None) -> int:
    """A member's number; a name needs a home, which knows the network's members. Raises InputError."""
    if text is None:
        if home is not None:
            return open_home(home).config.number
        raise InputError("expected --recipient: this file is a disclosure, made for one member")
    if text.isascii() and text.isdecimal() and len(text) <= 5:
        return int(text)
    if home is None:
        raise InputError("expected --recipient as a number, or a name together with --home")
    peers = open_home(home).config.peers
    for peer in peers:
        if peer.name == text:
            return peer.number
    raise InputError(
        f"expected --recipient, one of {', '.join(peer.name for peer in peers)}, got {text!r:.40}"
    )


def disclosed_as_json(disclosed: Disclosed) -> dict[str, Any]:
    """Under which consent and use it was disclosed."""
    terms, value = disclosed.terms, disclosed.consent_value
    return {
        "consent": disclosed.consent,
        "custodian": disclosed.custodian,
        "use": disclosed.sequence,
        "uses": value.uses,
        "max_uses": value.max_uses,
        "purpose": terms.purpose,
        "mode": terms.mode,
        "retention_days": terms.retention_days,
        "onward": terms.onward,
        "proved_height": disclosed.proved_height,
        "consent_bytes": disclosed.consent_bytes,
    }


def show_disclosure(data: bytes) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """(consent and use, evidence) as a file says it, without checking it. Raises VerificationError, InputError."""
    from taxledger.ledger.answer import show_decoded
    from taxledger.ledger.disclosure import decode_disclosure
    from taxledger.ledger.parts import join_evidence

    file = decode_disclosure(data)
    terms = file.artefact.terms
    about = {
        "consent": file.artefact.id(file.custodian),
        "custodian": file.custodian,
        "use": file.sequence,
        "recipient": terms.recipient,
        "purpose": terms.purpose,
        "mode": terms.mode,
        "scope": scope_text(terms),
    }
    return about, show_decoded(join_evidence(file.frame, file.parts))


def say_about(about: Mapping[str, Any]) -> None:
    """Lines of ``evidence show`` that only a disclosure has."""
    say(f"consent     {about['consent'].hex()}, use {about['use']}, for member {about['recipient']}")
    say(f"covers      {about['scope']}; purpose {about['purpose']}, mode {about['mode']}")
