"""Where the set of validators changed, kept so that verifiers can follow it (``policylinks.py``).

One entry of the store, ``K height8``, for each block that was the last of its set: a whole link, written with the
block's certificate. It needs nothing else of the store, so it outlives the pruning of its block, and what another
node gives of it proves itself.

Stores from before this index have none: their entries are made once, from the proposals in the state map, which
name every change that ever came into force; no block has to be looked at but the last of each set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from taxledger.ledger import limits
from taxledger.ledger.calls import RuleState
from taxledger.ledger.chainreader import ChainReader, at
from taxledger.ledger.checkpoint import decode_note
from taxledger.ledger.errors import RefusedError, VerificationError
from taxledger.ledger.execute import Tip, next_validators
from taxledger.ledger.genesis import Genesis, decode_genesis
from taxledger.ledger.governance import ProposalState, change_writes, changes_members, decode_proposal
from taxledger.ledger.handover import Handover
from taxledger.ledger.header import Header, decode_header
from taxledger.ledger.members import (
    Member,
    StateReader,
    cosign_vkey,
    encode_member,
    validators_hash_of,
    validators_of,
)
from taxledger.ledger.merkle import prove_inclusion
from taxledger.ledger.policy import quorum
from taxledger.ledger.policychain import verify_links
from taxledger.ledger.policylinks import EngineLink, Link, SetLink, decode_link, encode_link
from taxledger.ledger.statekeys import member_key
from taxledger.ledger.verifierkeys import make_origin, parse_vkey

__all__ = ["INDEXED", "entry_at_tip", "index_entries", "is_last_of_its_set", "link_entries", "links_from"]

INDEXED = b"K"
"""Present once the store has all its entries."""

Cosigns = Sequence[tuple[int, int, bytes]]
"""(member, seconds, signature)."""


def is_last_of_its_set(header: Header) -> bool:
    """Whether others co-sign the next block."""
    return header.validators_hash != header.next_validators_hash


def _entry(
    chain: ChainReader,
    height: int,
    cosigns: Cosigns,
    *,
    now: Iterable[Member],
    then: Iterable[Member],
    network: str,
) -> dict[bytes, bytes]:
    """What the index holds for a certified block that is the last of its set.

    Args:
        chain: with the block and the log up to it.
        height: of the block.
        cosigns: a quorum or more.
        now: the validators of the block.
        then: those of the next one.
        network: its name.
    """
    header = chain.header(height)
    names = {each.number: each.name for each in now}
    newest = sorted(cosigns, key=lambda each: (-each[1], each[0]))[: quorum(len(names))]
    link = SetLink(
        header=chain.header_leaf(height),
        inclusion=tuple(prove_inclusion(chain.node, header.index, header.size)),
        cosigned=tuple(sorted((names[member], time_s, signature) for member, time_s, signature in newest)),
        vkeys=tuple(sorted((cosign_vkey(network, each) for each in then), key=str.encode)),
    )
    return {at(b"K", height): encode_link(link)}


def entry_at_tip(chain: ChainReader, tip: Tip, view: RuleState, cosigns: Cosigns) -> dict[bytes, bytes]:
    """The entry of the block that is just being certified; empty where its validators stay.

    Args:
        chain: with the block and the log up to it.
        tip: network and height of the block; nothing else of it is read.
        view: state map after it.
        cosigns: its certificate.
    """
    if not is_last_of_its_set(chain.header(tip.height)):
        return {}
    return _entry(
        chain,
        tip.height,
        cosigns,
        now=validators_of(view),
        then=next_validators(tip, view),
        network=tip.network,
    )


def index_entries(chain: ChainReader, genesis: Genesis, tip: Tip, state: RuleState) -> dict[bytes, bytes]:
    """All entries of a store, from the state map; without those of blocks that the store does not have.

    Args:
        chain: the store.
        genesis: of the chain.
        tip: the newest certified block; its height and network are read.
        state: state map after it.
    """
    past = _Past({member_key(each.number): encode_member(each) for each in genesis.members})
    entries: dict[bytes, bytes] = {}
    for height, change in _changes_in_force(state):
        now, last = validators_of(past), height - 1
        past.writes.update(change_writes(change, height, past))
        then = validators_of(past)
        if last == 0 or chain.reader.get(at(b"B", last)) is None:
            continue
        if validators_hash_of(tip.network, now) != validators_hash_of(tip.network, then):
            entries |= _entry(chain, last, chain.cosigns(last), now=now, then=then, network=tip.network)
    if tip.height:
        entries |= entry_at_tip(chain, tip, state, chain.cosigns(tip.height))
    return entries


class _Past:
    """The members as they were after some of the changes."""

    def __init__(self, writes: dict[bytes, bytes]) -> None:
        self.writes = writes

    def get(self, key: bytes) -> bytes | None:
        return self.writes.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(pair for pair in self.writes.items() if pair[0].startswith(prefix)))


def _changes_in_force(state: StateReader) -> Iterator[tuple[int, list[Any]]]:
    """(height, change) of every change of the members that came into force, in that order."""
    proposals = [decode_proposal(key[1:], value) for key, value in state.scan(b"\x0b")]
    for each in sorted(proposals, key=lambda each: each.height):
        if each.state == ProposalState.IN_FORCE and changes_members(each.change):
            yield each.height, each.change


def link_entries(
    chain: ChainReader, genesis: Genesis, links: Sequence[bytes], *, now_ms: int
) -> dict[bytes, bytes]:
    """The entries of another node's links, once they are known to lead from the genesis to a chain's newest block.

    Args:
        chain: with that block, and without entries of its own.
        genesis: of the chain.
        links: as ``encode_link`` wrote them, in order.
        now_ms: the present instant.

    Raises:
        VerificationError, InputError: they don't.
    """
    decoded = [decode_link(each) for each in links]
    header = chain.header(chain.decided_height())
    engines = dict.fromkeys((genesis.engine, chain.present_engine()[0]))
    origins = [make_origin(genesis.network, header.chain_id, each) for each in engines]
    witnesses = {each.name: parse_vkey(cosign_vkey(genesis.network, each)) for each in genesis.validators}
    reached = verify_links(origins, witnesses, decoded, now_ms=now_ms)
    if reached != header.validators_hash:
        raise VerificationError(
            "links_broken",
            "the links don't lead to the present validators",
            expected=header.validators_hash.hex(),
            got=reached.hex(),
        )
    heights = [decode_header(each.header).height for each in decoded]
    return {at(b"K", height): data for height, data in zip(heights, links, strict=True)}


def links_from(
    chain: ChainReader, trusted: bytes, present: bytes, former: str | None = None
) -> tuple[Link, ...]:
    """The links from one set of validators to the present one; none where it is the present one.

    Args:
        chain: the ledger up to a certified block.
        trusted: the hash of the set to begin at.
        present: that of the set which certified the block and will certify the next one.
        former: the engine to begin at, where it is not the present one.

    Raises:
        RefusedError: ``policy_unknown``: no such set validated here, or no such engine handed a block over, as far
            as this node knows.
    """
    found = [decode_link(value) for _, value in chain.reader.scan(at(b"K", 0), at(b"K", 2**64 - 1))]
    links = [(decode_header(each.header), each) for each in found]
    if former is None:
        return _between(links, trusted, present)
    handed = [each for each in chain.handovers(limits.integer_max) if each.former == former and each.height]
    if not handed:
        raise RefusedError("policy_unknown", f"no block was handed over by an engine {former!r:.40} here")
    height = handed[0].height
    block = chain.header(height)
    return (
        *_between([each for each in links if each[0].height < height], trusted, block.validators_hash),
        _engine_link(chain, handed[0], links),
        *_between([each for each in links if each[0].height >= height], block.validators_hash, present),
    )


def _engine_link(chain: ChainReader, handed: Handover, links: Sequence[tuple[Header, SetLink]]) -> EngineLink:
    header = chain.header(handed.height)
    named = (len(link.vkeys) for each, link in links if each.next_validators_hash == header.validators_hash)
    validators = next(named, 0) or len(decode_genesis(chain.leaf(0)).validators)
    lines = sorted(decode_note(handed.note).cosign_lines, key=lambda each: (-each.time_s, each.name))
    return EngineLink(
        engine=handed.engine,
        header=chain.header_leaf(handed.height),
        inclusion=tuple(prove_inclusion(chain.node, header.index, header.size)),
        cosigned=tuple(
            sorted(
                (each.name.rpartition("/")[2], each.time_s, each.signature)
                for each in lines[: quorum(validators)]
            )
        ),
    )


def _between(links: Sequence[tuple[Header, SetLink]], trusted: bytes, present: bytes) -> tuple[SetLink, ...]:
    if trusted == present:
        return ()
    # A set may come back: from its last time on the way is the shortest.
    begin = max((n for n, each in enumerate(links) if each[0].validators_hash == trusted), default=None)
    if begin is None:
        raise RefusedError(
            "policy_unknown", "this ledger has had no such set of validators, as far as it lies here"
        )
    # The block that is the last of the present set, if it is certified already, leads further than the head.
    end = next(
        (n + 1 for n in range(begin, len(links)) if links[n][0].next_validators_hash == present), len(links)
    )
    return tuple(link for _, link in links[begin:end])
