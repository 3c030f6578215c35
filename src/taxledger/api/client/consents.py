"""All consents of a subject, with all their uses, proved. No I/O.

The subject's secret finds its consents: for each member of the network one prefix (``03 holder``) that only the
subject can name. Everything below a prefix is proved to be everything, so the list is complete, and so are the
uses below ``04 consent``. Whoever is asked learns nothing but 16 random-looking bytes a member.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from taxledger.api.client.reading import VerifiedState
from taxledger.api.client.wire import Call
from taxledger.ledger import canonical, limits
from taxledger.ledger.consent import holder_of
from taxledger.ledger.consentstate import ConsentValue, UseValue, decode_consent_value, decode_use_value
from taxledger.ledger.errors import InputError, VerificationError
from taxledger.ledger.members import Member, decode_member
from taxledger.ledger.shapes import integer, items
from taxledger.ledger.statekeys import consent_key, holder_key, uses_prefix

__all__ = ["Steps", "VerifiedConsent", "VerifiedConsents", "list_consents"]

Steps = Generator[Call[VerifiedState], VerifiedState, "VerifiedConsents"]
"""Asks for states, one after the other, and returns the list at the end."""

_MEMBERS = b"\x06"
_PREFIXES_MAX = 240
_USES_MAX = 8_000
_HEIGHT_BYTES_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedConsent:
    """A consent as the ledger has it.

    Attributes:
        consent: its id, 16 bytes.
        recipient: number of the member it was given to.
        granted_height: block of the grant.
        value: status, window, counts, custodian.
        uses: every use by its number, 1 to ``value.uses``.
    """

    consent: bytes
    recipient: int
    granted_height: int
    value: ConsentValue
    uses: Mapping[int, UseValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedConsents:
    """A subject's consents, complete and proved.

    Attributes:
        consents: ascending by the block of their grant.
        members: of the network, by number.
        looked_at: numbers of the members whose consents are listed.
        height: the list is complete as of this block, ``time_ms`` its time.
        age_ms: of the oldest co-signature counted.
    """

    consents: tuple[VerifiedConsent, ...]
    members: Mapping[int, Member]
    looked_at: tuple[int, ...]
    height: int
    time_ms: int
    age_ms: int


def list_consents(
    ask: Callable[[Sequence[bytes]], Call[VerifiedState]],
    subject_secret: bytes,
    members: Iterable[int] | None,
) -> Steps:
    """The steps to the list.

    Args:
        ask: makes the question for prefixes of the state.
        subject_secret: 32 bytes.
        members: recipients to look at; None for all of the network.

    Raises:
        InputError: a member that the network does not have.
        VerificationError: ``state_inconsistent``: what was proved does not fit together.
    """
    first = yield ask([_MEMBERS])
    known = _members(first)
    chosen = tuple(sorted(known if members is None else set(members)))
    for number in chosen:
        if number not in known:
            raise InputError(f"the network has no member {number}")
    states = [first]
    holders = {holder_key(holder_of(subject_secret, number)): number for number in chosen}
    granted: dict[bytes, tuple[int, int]] = {}
    for part in _parts(list(holders), _PREFIXES_MAX):
        states.append((yield ask(part)))
        granted |= _granted(states[-1], {prefix: holders[prefix] for prefix in part})
    counts: dict[bytes, int] = {}
    for part in _parts(list(granted), _PREFIXES_MAX):
        state = yield ask([consent_key(each) for each in part])
        counts |= {each: _value(state, each).uses for each in part}
    consents: list[VerifiedConsent] = []
    for batch in _batches(counts):
        # A consent and its uses in one answer: one block, so that its count and its uses have to fit.
        states.append((yield ask([key for each in batch for key in (consent_key(each), uses_prefix(each))])))
        consents += [_consent(states[-1], each, *granted[each]) for each in batch]
    oldest = min(states, key=lambda each: each.header.height)
    return VerifiedConsents(
        consents=tuple(sorted(consents, key=lambda each: (each.granted_height, each.consent))),
        members=known,
        looked_at=chosen,
        height=oldest.header.height,
        time_ms=oldest.header.time_ms,
        age_ms=max(each.age_ms for each in states),
    )


def _parts(keys: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    return (keys[at : at + size] for at in range(0, len(keys), size))


def _batches(counts: Mapping[bytes, int]) -> Iterator[list[bytes]]:
    """Consents that fit one answer: at most so many prefixes, and uses known so far."""
    batch: list[bytes] = []
    uses = 0
    for consent, count in counts.items():
        if batch and (2 * len(batch) + 2 > _PREFIXES_MAX or uses + count > _USES_MAX):
            yield batch
            batch, uses = [], 0
        batch.append(consent)
        uses += count
    if batch:
        yield batch


@contextmanager
def _consistent() -> Iterator[None]:
    """What is proved but can't be read is a fault of the ledger's, not of the caller's."""
    try:
        yield
    except InputError as error:
        raise _inconsistent(f"a value that can't be read: {error}") from error


def _inconsistent(what: str) -> VerificationError:
    return VerificationError("state_inconsistent", what)


def _members(state: VerifiedState) -> dict[int, Member]:
    found = {}
    with _consistent():
        for key, value in state.entries[_MEMBERS]:
            number = int.from_bytes(key[1:], "big")
            found[number] = decode_member(number, value)
    return found


def _granted(state: VerifiedState, holders: Mapping[bytes, int]) -> dict[bytes, tuple[int, int]]:
    """Consent -> (recipient, block of the grant), of everything below the holders."""
    found: dict[bytes, tuple[int, int]] = {}
    with _consistent():
        for prefix, recipient in holders.items():
            for key, value in state.entries[prefix]:
                (height,) = items(canonical.decode(value, bytes_max=_HEIGHT_BYTES_MAX), 1, "a holder's entry")
                found[key[len(prefix) :]] = recipient, integer(height, 1, limits.integer_max, "a height")
    return found


def _value(state: VerifiedState, consent: bytes) -> ConsentValue:
    pairs = state.entries[consent_key(consent)]
    if not pairs:
        raise _inconsistent("a consent stands under its holder and nowhere else")
    with _consistent():
        return decode_consent_value(pairs[0][1])


def _consent(state: VerifiedState, consent: bytes, recipient: int, granted_height: int) -> VerifiedConsent:
    value, prefix = _value(state, consent), uses_prefix(consent)
    with _consistent():
        uses = {
            int.from_bytes(key[len(prefix) :], "big"): decode_use_value(each)
            for key, each in state.entries[prefix]
        }
    if list(uses) != list(range(1, value.uses + 1)):
        raise _inconsistent(f"expected the uses 1 to {value.uses} of a consent, got {len(uses)} uses")
    return VerifiedConsent(
        consent=consent, recipient=recipient, granted_height=granted_height, value=value, uses=uses
    )
