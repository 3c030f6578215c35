"""Following a policy over changes of the validators, and everything that must be refused on the way."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from chainkit import TestChain, attest, make_genesis, signer
from policykit import head_of, joins, leaves, links_of, policy_file, policy_now, rotates, stored

from taxledger.ledger import canonical, limits
from taxledger.ledger.checkpoint import (
    Checkpoint,
    cosign,
    decode_note,
    encode_note,
    parse_origin,
    sign_checkpoint,
)
from taxledger.ledger.errors import FormatError, RefusedError, VerificationError
from taxledger.ledger.handover import Handover, encode_handover
from taxledger.ledger.hashing import log_leaf, sha256
from taxledger.ledger.header import decode_header
from taxledger.ledger.merkle import inclusion_root
from taxledger.ledger.policy import decode_policy, verify_checkpoint
from taxledger.ledger.policychain import follow_links, verify_links
from taxledger.ledger.policydate import Verified, policy_digest, read_verified, with_verified
from taxledger.ledger.policylinks import PolicyLinks, SetLink, decode_links, encode_links
from taxledger.ledger.setchanges import INDEXED, links_from
from taxledger.ledger.verify import verify_header

DAY_MS = 86_400_000
TRUST_MS = limits.policy_trust_days_default * DAY_MS


class Story:
    """Two joined and two left, one by one, and a co-signing key changed; a policy from every set."""

    def __init__(self) -> None:
        chain = self.chain = TestChain(make_genesis(4))
        chain.add(chain.sign(attest(through="2026-01-01")))
        self.policies = [policy_now(chain)]
        self.files = [policy_file(chain)]
        for step in (
            lambda: joins(chain, 8),
            lambda: leaves(chain, 4),
            lambda: joins(chain, 9),
            lambda: leaves(chain, 3),
            lambda: rotates(chain, 1, "cosign"),
        ):
            step()
            chain.add(chain.sign(attest(through=f"2026-02-{len(self.policies):02d}")))
            self.policies.append(policy_now(chain))
            self.files.append(policy_file(chain))
        self.ledger = stored(chain)
        self.now_ms = chain.time_ms + 2_000
        self.file = encode_links(links_of(chain, self.policies[0][0], self.ledger))

    def follow(self, data: bytes | None = None, begin: int = 0, **changes: object):
        policy, verified = self.policies[begin]
        arguments = {
            "policy": policy,
            "verified": verified,
            "data": self.file if data is None else data,
            "now_ms": self.now_ms,
            "trust_ms": TRUST_MS,
            "age_ms_max": 60_000,
        }
        return follow_links(**(arguments | changes))

    @property
    def parts(self) -> PolicyLinks:
        return decode_links(self.file)


@cache
def story() -> Story:
    return Story()


def refusal(data: bytes | PolicyLinks | None = None, **arguments: object) -> str:
    with pytest.raises(VerificationError) as caught:
        story().follow(encode_links(data) if isinstance(data, PolicyLinks) else data, **arguments)
    return caught.value.code


# --- the way --------------------------------------------------------------------------------------


def test_every_policy_leads_to_the_newest():
    told = story()
    for begin in range(len(told.policies)):
        data = encode_links(links_of(told.chain, told.policies[begin][0], told.ledger))
        followed = told.follow(data, begin)
        assert followed.changes == len(told.policies) - 1 - begin
        assert followed.policy == told.policies[-1][0]
        assert followed.data == told.files[-1]
        assert read_verified(followed.data) == followed.verified
        assert followed.verified.size == told.chain.tip.frontier.size


def test_the_first_policy_refuses_what_the_followed_one_verifies():
    told = story()
    block = told.chain.blocks[-1]
    note = decode_links(told.file).head.checkpoint
    with pytest.raises(VerificationError) as caught:
        verify_header(block.executed.header_leaf, told.policies[0][0], decode_note(note))
    assert caught.value.code == "policy_outdated"
    assert "taxledger policy update" in str(caught.value)
    followed = told.follow()
    verify_header(block.executed.header_leaf, followed.policy, decode_note(note))
    verify_checkpoint(followed.policy, decode_note(note), now_ms=told.now_ms, age_ms_max=60_000)


def test_a_log_key_is_followed_though_the_set_stays():
    chain = TestChain(make_genesis(4))
    chain.add()
    policy, verified = policy_now(chain)
    rotates(chain, 1, "log")
    found = links_of(chain, policy)
    assert found.links == ()
    arguments = {"now_ms": chain.time_ms + 2_000, "trust_ms": TRUST_MS, "age_ms_max": 60_000}
    followed = follow_links(policy, verified, encode_links(found), **arguments)
    assert followed.policy == policy_now(chain)[0] != policy


def test_a_set_that_comes_back_is_followed_from_its_last_time():
    chain = TestChain(make_genesis(4))
    chain.add()
    policy, verified = policy_now(chain)
    joins(chain, 8)
    leaves(chain, 8)
    found = links_of(chain, policy)
    assert found.links == ()
    joins(chain, 9)
    found = links_of(chain, policy)
    assert len(found.links) == 1
    arguments = {"now_ms": chain.time_ms + 2_000, "trust_ms": TRUST_MS, "age_ms_max": 60_000}
    assert follow_links(policy, verified, encode_links(found), **arguments).policy == policy_now(chain)[0]


def test_an_older_store_is_indexed_once_and_alike():
    told = story()
    ledger = stored(told.chain)
    kept = dict(ledger.store.scan(b"K", b"L"))
    assert len(kept) == 6
    ledger.store.write(dict.fromkeys(kept))
    again = type(ledger)(ledger.store, told.chain.genesis_leaf)
    assert dict(again.store.scan(b"K", b"L")) == kept
    assert again.store.get(INDEXED) is not None


def test_a_set_that_never_was_has_no_links():
    told = story()
    with pytest.raises(RefusedError, match="policy_unknown"):
        links_from(told.ledger, bytes(32), told.policies[-1][0].validators_hash)


# --- what is refused --------------------------------------------------------------------------------


def test_every_corrupted_byte_is_refused():
    told = story()
    whole = encode_links(links_of(told.chain, told.policies[-2][0], told.ledger))
    codes: dict[str, int] = {}
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        code = refusal(bytes(data), begin=-2)
        codes[code] = codes.get(code, 0) + 1
    print(codes)
    assert min(codes.get(each, 0) for each in ("signature_invalid", "links_broken", "malformed")) > 50


def test_every_cut_is_refused():
    told = story()
    for length in range(0, len(told.file), 7):
        assert refusal(told.file[:length]) in ("malformed", "not_canonical")
    assert refusal(told.file + b"\x00") == "not_canonical"


def test_links_count_in_their_order_only():
    links = story().parts.links
    for wrong in (
        links[1:],
        links[:-1],
        links[:1] + links[2:],
        (links[1], links[0], *links[2:]),
        (links[0], *links),
        (*links, links[-1]),
        (),
    ):
        assert refusal(replace(story().parts, links=tuple(wrong))) == "links_broken"


def test_the_policy_may_stand_later_than_a_link():
    told = story()
    later = replace(told.policies[0][1], size=decode_header(told.parts.links[0].header).size)
    assert refusal(verified=later) == "links_broken"


def test_a_head_before_the_policy_is_refused():
    told = story()
    _policy, verified = told.policies[-1]
    data = encode_links(replace(told.parts, links=()))
    assert told.follow(data, -1).verified == verified
    assert refusal(data, begin=-1, verified=replace(verified, size=verified.size + 1)) == "links_broken"


def test_a_quorum_of_the_old_set_must_have_signed():
    told = story()
    link = told.parts.links[0]
    rest = told.parts.links[1:]

    def with_cosigned(cosigned) -> str:
        return refusal(replace(told.parts, links=(replace(link, cosigned=tuple(cosigned)), *rest)))

    assert len(link.cosigned) == 3
    assert with_cosigned(link.cosigned[:1]) == "quorum_missing"  # f = 1 of the old set
    assert with_cosigned(link.cosigned[:2]) == "quorum_missing"
    assert with_cosigned((link.cosigned[0], *link.cosigned[:2])) == "signer_repeated"
    assert with_cosigned(reversed(link.cosigned)) == "malformed"
    stranger = ("v8", *link.cosigned[0][1:])
    assert with_cosigned((*link.cosigned[:2], stranger)) == "signer_unknown"
    names = [name for name, _, _ in link.cosigned]
    spare = next(f"v{n}" for n in range(1, 5) if f"v{n}" not in names)
    four = sorted([*link.cosigned, (spare, *link.cosigned[0][1:])])
    assert with_cosigned(four) == "malformed"


def forged(told: Story, header_changes: dict[str, object], signers: list[int], time_s: int | None = None):
    """A first link over a header that never was, co-signed by some of the first set."""
    link = told.parts.links[0]
    value = canonical.decode(link.header)
    names = list(decode_header(link.header).__slots__)
    for name, new in header_changes.items():
        value[2 + names.index(name)] = new
    leaf = canonical.encode(value)
    header = decode_header(leaf)
    root = inclusion_root(log_leaf(leaf), header.index, header.size, link.inclusion)
    point = Checkpoint(origin=told.chain.origin, size=header.size, root=root)
    seconds = header.time_ms // 1_000 + 1 if time_s is None else time_s
    cosigned = tuple((f"v{n}", seconds, cosign(signer(n, "cosign"), point, seconds)) for n in signers)
    return replace(link, header=leaf, cosigned=cosigned)


def test_forged_sets():
    told = story()
    rest = told.parts.links[1:]
    link = told.parts.links[0]

    def said(forgery) -> str:
        return refusal(replace(told.parts, links=(forgery, *rest)))

    # One of four, f, signs three times under other names, for a set of its own.
    own = {"next_validators_hash": bytes(32)}
    assert said(forged(told, own, [1])) == "quorum_missing"
    lone = forged(told, own, [1]).cosigned[0]
    liar = replace(forged(told, own, [1]), cosigned=tuple((f"v{n}", *lone[1:]) for n in (1, 2, 3)))
    assert said(liar) == "signature_invalid"
    # What a quorum signed must name the keys given, be of this chain, and change something.
    assert said(forged(told, own, [1, 2, 3])) == "links_broken"
    assert said(replace(link, vkeys=link.vkeys[1:])) == "links_broken"
    assert said(forged(told, {"chain_id": bytes(16)}, [1, 2, 3])) == "header_mismatch"
    same = decode_header(link.header).validators_hash
    assert said(forged(told, {"next_validators_hash": same}, [1, 2, 3])) == "links_broken"
    assert said(forged(told, {"validators_hash": bytes(32)}, [1, 2, 3])) == "links_broken"
    ahead = told.now_ms // 1_000 + 120
    assert said(forged(told, {}, [1, 2, 3], ahead)) == "checkpoint_stale"
    assert said(forged(told, {}, [1, 2, 3], told.now_ms // 1_000 - 91 * 86_400)) == "policy_expired"


def test_other_chains_and_engines():
    told = story()
    policy, _verified = told.policies[0]
    network, chain, _engine = policy.origin.split("/")
    for origin in (
        f"{network}/{'0' * 32}/embedded",
        f"other.net/{chain}/embedded",
        f"{network}/{chain}/cometbft",
    ):
        text = told.files[0].decode().replace(policy.origin, origin)
        assert refusal(policy=replace(policy, origin=origin)) in ("policy_mismatch", "signature_invalid"), (
            text
        )
        data = encode_links(replace(told.parts, links=()))
        assert refusal(data, policy=replace(told.policies[-1][0], origin=origin)) == "policy_mismatch"


def test_a_head_must_be_proved():
    told = story()
    head = told.parts.head

    def said(**changes) -> str:
        return refusal(replace(told.parts, head=replace(head, **changes)))

    assert said(members=head.members[:-1]) == "prefix_incomplete"
    assert said(proof=head.proof[:-1]) == "map_proof_invalid"
    assert said(inclusion=head.inclusion[:-1]) == "inclusion_invalid"
    # A log key that the state does not have: the members shown are not those that are proved.
    key, entry = head.members[0]
    value = canonical.decode(entry)
    value[7] = signer(9, "log", 3).public_key
    lied = ((key, canonical.encode(value)), *head.members[1:])
    assert said(members=lied) in ("policy_mismatch", "prefix_incomplete")
    assert refusal(age_ms_max=0) == "checkpoint_stale"


# --- another engine -----------------------------------------------------------------------------


class Handed:
    """Two sets under one engine, a handover, a third set under the other."""

    def __init__(self) -> None:
        chain = self.chain = TestChain(make_genesis(4))
        chain.add()
        self.first, self.verified = policy_now(chain)
        joins(chain, 8)
        height, former = len(chain.blocks), chain.origin
        chain.origin = chain.origin.replace("embedded", "cometbft")
        block = chain.blocks[-1]
        seconds = chain.time_ms // 1_000 + 1
        lines = [
            (f"test.net/{each.name}", each.cosign_key, seconds,
             cosign(signer(each.number, "cosign"), chain.checkpoint(block.executed), seconds))
            for each in block.executed.validators
        ]  # fmt: skip
        point = chain.checkpoint(block.executed)
        log = signer(1, "log")
        note = encode_note(point, log.public_key, sign_checkpoint(log, point), lines)
        joins(chain, 9)
        self.ledger = stored(chain)
        self.ledger.store.write(
            {
                b"G" + height.to_bytes(8, "big"): encode_handover(
                    Handover(
                        height=height,
                        former="embedded",
                        engine="cometbft",
                        former_cosigns=(),
                        former_note=b"",
                        note=note,
                    )
                )
            }
        )
        assert parse_origin(former).engine == "embedded"
        self.links = links_from(
            self.ledger, self.first.validators_hash, chain.policy().validators_hash, "embedded"
        )
        self.parts = PolicyLinks(links=self.links, head=head_of(chain, self.ledger))

    def follow(self, parts: PolicyLinks):
        return follow_links(
            self.first,
            self.verified,
            encode_links(parts),
            now_ms=self.chain.time_ms + 2_000,
            trust_ms=TRUST_MS,
            age_ms_max=60_000,
        )


@cache
def handed() -> Handed:
    return Handed()


def test_a_handover_is_followed_between_two_changes_of_the_set():
    told = handed()
    assert [type(each).__name__ for each in told.links] == ["SetLink", "EngineLink", "SetLink"]
    followed = told.follow(told.parts)
    assert followed.policy == policy_now(told.chain)[0]
    assert parse_origin(followed.policy.origin).engine == "cometbft"
    assert followed.changes == 2
    with pytest.raises(RefusedError, match="policy_unknown"):
        links_from(told.ledger, told.first.validators_hash, told.chain.policy().validators_hash, "other")


def test_links_from_the_genesis_lead_over_a_handover():
    """What a node takes of another one's when it begins with a snapshot: the links without the handover."""
    told = handed()
    sets = [each for each in told.links if isinstance(each, SetLink)]
    origins = [told.first.origin, told.chain.origin]
    times = {"now_ms": told.chain.time_ms + 2_000}
    reached = verify_links(origins, told.first.witnesses, sets, **times)
    assert reached == told.chain.policy().validators_hash
    for wrong in (origins[:1], origins[1:], origins[::-1]):
        with pytest.raises(VerificationError, match="signature_invalid"):
            verify_links(wrong, told.first.witnesses, sets, **times)


def test_forged_handovers():
    told = handed()
    first, link, last = told.links

    def said(*links, **changes) -> str:
        with pytest.raises(VerificationError) as caught:
            told.follow(replace(told.parts, links=links or (first, replace(link, **changes), last)))
        return caught.value.code

    assert said(engine="embedded") == "links_broken"
    assert said(engine="Comet/BFT") == "links_broken"
    assert said(engine="other") == "signature_invalid"
    assert said(cosigned=link.cosigned[:3]) == "quorum_missing"  # of five, four
    assert said(cosigned=(link.cosigned[0], *link.cosigned[:3])) == "signer_repeated"
    assert said(inclusion=link.inclusion[:-1]) == "inclusion_invalid"
    assert said(header=first.header) == "links_broken"
    assert said(first, last) == "signature_invalid"
    assert said(link, first, last) == "links_broken"
    assert said(first, link, link, last) == "links_broken"
    assert said(first, link) == "links_broken"
    # What was co-signed under the former origin shows no handover.
    block = told.chain.blocks[decode_header(link.header).height - 1]
    names = {each.number: each.name for each in block.executed.validators}
    old = sorted((names[member], time_s, signature) for member, time_s, signature in block.cosigns)[:4]
    assert said(cosigned=tuple(old)) == "signature_invalid"


def test_every_corrupted_byte_of_a_handover_is_refused():
    told = handed()
    whole = encode_links(told.parts)
    begin = whole.index(b"cometbft")
    for at in range(begin, begin + 700):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        with pytest.raises(VerificationError):
            follow_links(
                told.first,
                told.verified,
                bytes(data),
                now_ms=told.chain.time_ms + 2_000,
                trust_ms=TRUST_MS,
                age_ms_max=60_000,
            )


# --- the trust period --------------------------------------------------------------------------------


def test_a_policy_is_followed_within_the_trust_period():
    told = story()
    verified = told.policies[0][1]
    day = told.now_ms // 1_000 - 90 * 86_400
    assert told.follow(verified=replace(verified, time_s=day + 60)).changes == 5
    assert refusal(verified=replace(verified, time_s=day - 1)) == "policy_expired"
    assert refusal(verified=replace(verified, time_s=day - 1), trust_ms=89 * DAY_MS) == "policy_expired"
    assert told.follow(verified=replace(verified, time_s=day - 1), trust_ms=91 * DAY_MS).changes == 5
    assert refusal(verified=None) == "policy_expired"
    assert refusal(verified=replace(verified, time_s=told.now_ms // 1_000 + 3_600)) == "policy_expired"
    # Nor does it help that the policy is dated by hand: the links themselves are too old.
    late = told.now_ms + 100 * DAY_MS
    assert refusal(now_ms=late, verified=replace(verified, time_s=late // 1_000)) == "policy_expired"


def test_the_line_that_dates_a_policy():
    told = story()
    data = told.files[0]
    verified = read_verified(data)
    assert verified is not None
    assert data.startswith(b"# taxledger policy: verified 2026-01-01T00:00:")
    assert decode_policy(data) == told.policies[0][0]
    other = Verified(time_s=0, size=7)
    assert with_verified(data, other).startswith(
        b"# taxledger policy: verified 1970-01-01T00:00:00Z size 7\n"
    )
    assert with_verified(with_verified(data, other), verified) == data
    plain = data.split(b"\n", 1)[1]
    assert read_verified(plain) is None
    assert (
        policy_digest(with_verified(data, other))
        == policy_digest(data)
        == policy_digest(plain)
        == sha256(plain)
    )
    for wrong in (
        b"# taxledger policy: verified 2026-01-01T00:00:00Z\n",
        b"# taxledger policy: verified 2026-02-30T00:00:00Z size 1\n",
        b"# taxledger policy: verified 2026-01-01T00:00:00+00:00 size 1\n",
        b"# taxledger policy: verified 2026-01-01T00:00:00Z size 01\n",
        b"# taxledger policy: trusted\n",
        data.split(b"\n", 1)[0] + b"\n" + data.split(b"\n", 1)[0] + b"\n",
    ):
        with pytest.raises(FormatError):
            read_verified(wrong + plain)
