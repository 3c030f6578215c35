"""Messages of the embedded engine, as canonical msgpack. Shapes are checked here; truth by whoever acts.

    step      sequencer → peer       [1, "step", chain_id, status | nil, blocks, proposal | nil, cosigns, certified]
      block                          [height, time_ms, transactions | nil, header_hash, votes, cosigns]
      proposal                       [height, time_ms, transactions, header_hash, the sequencer's own vote]
    answer    peer → sequencer       [1, "step", decided, certified, vote | nil, cosigns, problem | nil]
      vote                           [height, header_hash, signature]
    journal   validator → sequencer  [1, "journal", [height, time_ms, transactions, header_hash] | nil]
    votes     validator → validator  [1, "votes", decided, [[member, height, header_hash, signature] …]]

``certified`` is the sequencer's newest certified height: a peer below it is catching up.
A block's transactions are nil for a peer that voted for it: it has the batch already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.chain import Vote
from taxledger.ledger.errors import FormatError

__all__ = [
    "Answer",
    "DecidedBlock",
    "Proposal",
    "SignedVote",
    "Step",
    "decode_answer",
    "decode_journal",
    "decode_step",
    "decode_votes",
    "encode_answer",
    "encode_journal",
    "encode_step",
    "encode_votes",
]

_INT, _BYTES, _STR, _LIST, _NONE = int, bytes, str, list, type(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedVote:
    """A vote as signed; ``header_hash`` is the leaf hash of the header."""

    member: int
    height: int
    header_hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedBlock:
    """A block with the quorum of votes that decided it; ``transactions`` None for who has the batch."""

    height: int
    time_ms: int
    transactions: tuple[bytes, ...] | None
    header_hash: bytes
    votes: tuple[tuple[int, bytes], ...]
    cosigns: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A batch to vote on; ``signature`` is the sequencer's own vote for ``header_hash``."""

    height: int
    time_ms: int
    transactions: tuple[bytes, ...]
    header_hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the sequencer sends to one peer: everything that peer lacks."""

    status: str | None
    blocks: tuple[DecidedBlock, ...]
    proposal: Proposal | None
    cosigns: tuple[bytes, ...]
    certified: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where the peer stands after a step."""

    decided: int
    certified: int
    vote: SignedVote | None
    cosigns: tuple[bytes, ...]
    problem: str | None


def _shaped(value: Any, what: str, *types: Any) -> list[Any]:
    if type(value) is not list or len(value) != len(types):
        raise FormatError(f"expected {what}: an array of {len(types)}")
    for each, allowed in zip(value, types, strict=True):
        if type(each) not in (allowed if type(allowed) is tuple else (allowed,)):
            raise FormatError(f"expected {what} of other types")
        if type(each) is int and not 0 <= each < 2**63:
            raise FormatError(f"a number out of range in {what}")
    return value


def _bins(value: Any, what: str, *, count_max: int) -> tuple[bytes, ...]:
    if type(value) is not list or len(value) > count_max or any(type(each) is not bytes for each in value):
        raise FormatError(f"expected {what}: an array of at most {count_max} bins")
    return tuple(value)


def _sized(value: bytes, size: int, what: str) -> bytes:
    if len(value) != size:
        raise FormatError(f"expected {what} of {size} bytes, got {len(value)}")
    return value


_STATUS_CHARACTERS_MAX = 2_000
_COSIGNS_MAX = limits.validators_max * (limits.uncertified_blocks_max + 2)


def encode_step(step: Step, chain_id: bytes) -> list[Any]:
    """The value to send (``PeerClient.call`` encodes it)."""
    proposal = step.proposal
    return [
        1,
        "step",
        chain_id,
        step.status,
        [
            [
                each.height,
                each.time_ms,
                None if each.transactions is None else list(each.transactions),
                each.header_hash,
                [list(vote) for vote in each.votes],
                list(each.cosigns),
            ]
            for each in step.blocks
        ],
        None
        if proposal is None
        else [
            proposal.height,
            proposal.time_ms,
            list(proposal.transactions),
            proposal.header_hash,
            proposal.signature,
        ],
        list(step.cosigns),
        step.certified,
    ]


def decode_step(value: Any, chain_id: bytes) -> Step:
    """Raises FormatError unless ``value`` is a step for this chain."""
    fields = _shaped(value, "a step", _INT, _STR, _BYTES, (_STR, _NONE), _LIST, (_LIST, _NONE), _LIST, _INT)
    version, what, chain, status, blocks, proposal, cosigns, certified = fields
    if version != 1 or what != "step" or chain != chain_id:
        raise FormatError(f"expected a step of chain {chain_id.hex()}")
    return Step(
        status=None if status is None else status[:_STATUS_CHARACTERS_MAX],
        blocks=tuple(_decode_block(each) for each in blocks),
        proposal=None if proposal is None else _decode_proposal(proposal),
        cosigns=_bins(cosigns, "co-signatures", count_max=_COSIGNS_MAX),
        certified=certified,
    )


def _decode_block(value: Any) -> DecidedBlock:
    height, time_ms, transactions, header_hash, votes, cosigns = _shaped(
        value, "a block", _INT, _INT, (_LIST, _NONE), _BYTES, _LIST, _LIST
    )
    return DecidedBlock(
        height=height,
        time_ms=time_ms,
        transactions=None
        if transactions is None
        else _bins(transactions, "transactions", count_max=limits.block_transactions_max),
        header_hash=_sized(header_hash, 32, "a header hash"),
        votes=tuple(
            (member, _sized(signature, 64, "a vote"))
            for member, signature in (_shaped(each, "a vote", _INT, _BYTES) for each in votes)
        ),
        cosigns=_bins(cosigns, "co-signatures", count_max=limits.validators_max),
    )


def _decode_proposal(value: Any) -> Proposal:
    height, time_ms, transactions, header_hash, signature = _shaped(
        value, "a proposal", _INT, _INT, _LIST, _BYTES, _BYTES
    )
    return Proposal(
        height=height,
        time_ms=time_ms,
        transactions=_bins(transactions, "transactions", count_max=limits.block_transactions_max),
        header_hash=_sized(header_hash, 32, "a header hash"),
        signature=_sized(signature, 64, "a vote"),
    )


def encode_answer(answer: Answer) -> list[Any]:
    vote = answer.vote
    return [
        1,
        "step",
        answer.decided,
        answer.certified,
        None if vote is None else [vote.height, vote.header_hash, vote.signature],
        list(answer.cosigns),
        answer.problem,
    ]


def decode_answer(data: bytes, member: int) -> Answer:
    """Raises FormatError (or EncodingError) unless ``data`` is an answer; ``member`` is who sent it."""
    fields = _shaped(
        canonical.decode(data, bytes_max=1 << 20),
        "an answer",
        _INT,
        _STR,
        _INT,
        _INT,
        (_LIST, _NONE),
        _LIST,
        (_STR, _NONE),
    )
    version, what, decided, certified, vote, cosigns, problem = fields
    if version != 1 or what != "step":
        raise FormatError("expected an answer to a step")
    signed = None
    if vote is not None:
        height, header_hash, signature = _shaped(vote, "a vote", _INT, _BYTES, _BYTES)
        signed = SignedVote(
            member=member,
            height=height,
            header_hash=_sized(header_hash, 32, "a header hash"),
            signature=_sized(signature, 64, "a vote"),
        )
    return Answer(
        decided=decided,
        certified=certified,
        vote=signed,
        cosigns=_bins(cosigns, "co-signatures", count_max=_COSIGNS_MAX),
        problem=problem,
    )


def encode_votes(decided: int, votes: list[SignedVote]) -> list[Any]:
    return [1, "votes", decided, [[v.member, v.height, v.header_hash, v.signature] for v in votes]]


def decode_votes(data: bytes) -> tuple[int, list[SignedVote]]:
    """(decided height of the sender, votes it has seen). Raises FormatError."""
    version, what, decided, votes = _shaped(
        canonical.decode(data, bytes_max=1 << 20), "votes", _INT, _STR, _INT, _LIST
    )
    if version != 1 or what != "votes" or len(votes) > 4 * limits.validators_max:
        raise FormatError("expected votes")
    return decided, [
        SignedVote(
            member=member,
            height=height,
            header_hash=_sized(header_hash, 32, "a header hash"),
            signature=_sized(signature, 64, "a vote"),
        )
        for member, height, header_hash, signature in (
            _shaped(each, "a vote", _INT, _INT, _BYTES, _BYTES) for each in votes
        )
    ]


def encode_journal(vote: Vote | None) -> list[Any]:
    if vote is None:
        return [1, "journal", None]
    return [1, "journal", [vote.height, vote.time_ms, list(vote.transactions), vote.header_hash]]


def decode_journal(data: bytes) -> Vote | None:
    """A validator's journalled vote with its batch, if it has one. Raises FormatError."""
    version, what, entry = _shaped(canonical.decode(data), "a journal entry", _INT, _STR, (_LIST, _NONE))
    if version != 1 or what != "journal":
        raise FormatError("expected a journal entry")
    if entry is None:
        return None
    height, time_ms, transactions, header_hash = _shaped(entry, "a journal entry", _INT, _INT, _LIST, _BYTES)
    return Vote(
        height=height,
        header_hash=_sized(header_hash, 32, "a header hash"),
        time_ms=time_ms,
        transactions=_bins(transactions, "transactions", count_max=limits.block_transactions_max),
    )
