"""Every rule refuses once and lets the same thing pass once; nothing of a refused transaction holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chainkit import (
    CLIENT,
    FILING,
    INVOICE,
    ISSUER,
    PURPOSES,
    TestChain,
    attest,
    client,
    digest,
    encode_attest,
    group,
    signer,
    tag_key,
    tag_signer,
    validator,
    value,
)

from taxledger.ledger import canonical, hashing, limits, statekeys
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import EncodingError, FormatError
from taxledger.ledger.governance import member_replace, member_set, parameter_set, schema_register
from taxledger.ledger.members import MemberRole, MemberStatus, member_of
from taxledger.ledger.operations import (
    AmendChange,
    RevokeChange,
    encode_amend,
    encode_approve,
    encode_propose,
    encode_revoke,
    encode_tag_key,
)
from taxledger.ledger.rules import RESULT_NAMES, RULES, Result, decode_result, encode_result
from taxledger.ledger.schemas import encode_schema
from taxledger.ledger.tagkeys import prove_tag_key


@pytest.fixture
def chain() -> TestChain:
    """With the issuer's tag key of 2025 and three invoices: 1 valid, 2 voided, 3 reversed."""
    made = TestChain()
    assert made.result(tag_key(made.chain_id)) == (0, None)
    groups = [group(status, status=status) for status in (1, 2, 3)]
    assert made.result(attest(*groups)) == (0, None)
    return made


def key_of(rid: int, *, kind: int = INVOICE, issuer: int = ISSUER, month: int = 3) -> bytes:
    return statekeys.record_key(issuer, kind, (1).to_bytes(16, "big"), month, rid.to_bytes(16, "big"))


def change(rid: int, *, version: int = 1, status: int = 1, schema: int = 1, **other) -> AmendChange:
    base = AmendChange(
        key=key_of(rid),
        version=version,
        status=status,
        schema=schema,
        commitment=digest("amended", rid),
        fingerprint=None,
        reason=1,
        reason_digest=None,
    )
    return replace(base, **other)


def amend(*changes: AmendChange, kind: int = INVOICE) -> bytes:
    return encode_amend(kind, changes)


def revoke(*rids: int, version: int = 1, kind: int = INVOICE) -> bytes:
    changes = [RevokeChange(key=key_of(rid), version=version, reason=4, reason_digest=None) for rid in rids]
    return encode_revoke(kind, changes)


def test_the_list_is_the_protocols():
    assert [rule.code for rule in RULES] == list(range(3, 52))
    assert RESULT_NAMES == {
        0: "ok",
        1: "payload_malformed",
        2: "member_inactive",
        3: "kind_not_issued",
        4: "schema_unknown",
        5: "tag_key_missing",
        6: "record_exists",
        7: "status_invalid",
        8: "through_not_forward",
        9: "record_unknown",
        10: "version_conflict",
        11: "transition_invalid",
        12: "tag_key_exists",
        13: "tag_key_invalid",
        14: "proposal_unknown",
        15: "approval_repeated",
        16: "not_validator",
        17: "change_invalid",
        18: "change_pending",
        19: "consent_exists",
        20: "consent_terms_invalid",
        21: "consent_unknown",
        22: "not_custodian",
        23: "preimage_invalid",
        24: "consent_state_invalid",
        25: "consent_paused",
        26: "consent_revoked",
        27: "consent_superseded",
        28: "consent_early",
        29: "consent_expired",
        30: "consent_used_up",
        31: "use_out_of_order",
        32: "use_unknown",
        33: "use_closed",
        34: "data_erased_repeated",
        35: "pledge_exists",
        36: "pledge_unknown",
        37: "pledge_ended",
        38: "not_pledgee",
        39: "pledge_confirmed",
        40: "permit_invalid",
        41: "permit_expired",
        42: "permit_not_for_signer",
        43: "permit_not_for_pledge",
        44: "lender_inactive",
        45: "ppm_too_small",
        46: "pledge_term_invalid",
        47: "record_not_pledgeable",
        48: "record_not_valid",
        49: "pledge_contested",
        50: "pledges_full",
        51: "pledge_exceeds",
    }


def test_1_payload_malformed(chain):
    for payload in (b"", b"\x00", b"\xc1", attest(group(9)) + b"\x00", canonical.encode([1, "unheard of"])):
        assert chain.result(payload) == (1, None)
    assert chain.result(attest(group(9))) == (0, None)


def test_3_kind_not_issued(chain):
    refused = [attest(group(9), kind=9), amend(change(1), kind=9), revoke(1, kind=9)]
    for payload in refused:
        assert chain.result(payload) == (3, None)
    assert chain.result(attest(group(9)), member=CLIENT) == (3, None)
    assert chain.result(attest(group(9), kind=FILING)) == (0, None)


def test_4_schema_unknown_names_the_groups_first_entry(chain):
    assert chain.result(attest(group(7, 8), group(9, tag=2, schema=200))) == (4, 2)
    assert chain.result(amend(change(1), change(2, status=2, schema=200))) == (4, 1)
    assert chain.result(attest(group(7, 8), group(9, tag=2))) == (0, None)


def test_5_tag_key_missing(chain):
    assert chain.result(attest(group(9), year=2024)) == (5, None)
    assert chain.result(tag_key(chain.chain_id, 2024)) == (0, None)
    assert chain.result(attest(group(9), year=2024)) == (0, None)


def test_6_record_exists_in_the_map_or_twice(chain):
    assert chain.result(attest(group(10, 11, tag=0), group(1, tag=1))) == (6, 2)
    twice = [group(10, 12), group(11, 12, status=2)]
    assert chain.result(attest(*twice)) == (6, 3)
    assert chain.view.get(key_of(10)) is None, "nothing of a refused transaction holds"
    assert chain.result(attest(group(10, 12), group(11, 13, status=2))) == (0, None)
    assert chain.result(attest(group(1, month=4))) == (0, None), "another month is another key"


def test_6_sees_the_transactions_before_it_in_the_block(chain):
    first, second = chain.sign(attest(group(20))), chain.sign(attest(group(19, 20)))
    assert chain.results(first, second) == [(0, None), (6, 1)]


def test_7_status_invalid(chain):
    for status in (0, 4, 5, 255):
        assert chain.result(attest(group(30), group(31, status=status, tag=2))) == (7, 1)
    for status in (1, 2, 3):
        assert chain.result(attest(group(30 + status, status=status))) == (0, None)


def test_8_through_not_forward(chain):
    for through in ("2025-02-29", "2025-2-01", "20250131", "", "2025-W01-1"):
        assert chain.result(attest(through=through)) == (8, None)
    assert chain.result(attest(through="2025-03-31")) == (0, None)
    for through in ("2025-03-31", "2025-03-30", "0001-01-01"):
        assert chain.result(attest(group(40), through=through)) == (8, None)
    assert chain.result(attest(group(40), through="2025-04-30")) == (0, None)
    height = chain.tip.height
    assert value(chain.view, statekeys.attested_through_key(ISSUER, INVOICE)) == ["2025-04-30", height]


def test_9_record_unknown_another_kind_or_another_issuer(chain):
    assert chain.result(amend(change(1), change(99))) == (9, 1)
    assert chain.result(revoke(1, 99)) == (9, 1)
    assert chain.result(amend(change(1), kind=FILING)) == (9, 0)
    other = replace(change(1), key=key_of(1, issuer=ISSUER + 1))
    assert chain.result(encode_amend(INVOICE, [other])) == (9, 0)
    assert chain.result(amend(change(1))) == (0, None)


def test_10_version_conflict(chain):
    assert chain.result(amend(change(1), change(2, version=2, status=2))) == (10, 1)
    assert chain.result(revoke(1, version=2)) == (10, 0)
    assert chain.result(amend(change(1))) == (0, None)
    assert chain.result(amend(change(1))) == (10, 0)
    assert chain.result(amend(change(1, version=2))) == (0, None)
    written = value(chain.view, key_of(1))
    assert written == [1, 3, 1, digest("amended", 1), None, chain.tip.height]


@pytest.mark.parametrize("old", [1, 2, 3])
@pytest.mark.parametrize("new", range(8))
def test_11_transition_invalid(chain, old, new):
    allowed = (old, new) in {(1, 1), (1, 2), (1, 3), (1, 6), (3, 2), (3, 3)}
    expected = (0, None) if allowed else (11, 0)
    assert chain.result(amend(change(old, status=new))) == expected


def test_11_revoke_is_final_and_keeps_version_and_commitment(chain):
    before = {rid: value(chain.view, key_of(rid)) for rid in (1, 2, 3)}
    assert chain.result(revoke(1, 2, 3)) == (0, None)
    for rid, old in before.items():
        assert value(chain.view, key_of(rid)) == [4, *old[1:5], chain.tip.height]
    assert chain.result(revoke(1)) == (11, 0)
    assert chain.result(amend(change(1))) == (11, 0)


def test_12_tag_key_exists(chain):
    assert chain.result(tag_key(chain.chain_id)) == (12, None)
    assert chain.result(tag_key(chain.chain_id, 2026)) == (0, None)
    stored = value(chain.view, statekeys.tag_key_key(ISSUER, 2026))
    assert stored == [tag_signer().modulus, chain.tip.height]


def test_13_tag_key_invalid(chain):
    def made(
        chain_id: bytes = chain.chain_id, issuer: int = ISSUER, year: int = 2027, **changed: bytes
    ) -> bytes:
        proof = prove_tag_key(tag_signer(), chain_id, issuer, year)
        return encode_tag_key(2027, changed.get("modulus", tag_signer().modulus), changed.get("proof", proof))

    for year in (1989, 2201):
        assert chain.result(tag_key(chain.chain_id, year)) == (13, None)
    assert chain.result(made(year=2028)) == (13, None)
    assert chain.result(made(issuer=CLIENT)) == (13, None)
    assert chain.result(made(chain_id=bytes(16))) == (13, None)
    assert chain.result(made(modulus=tag_signer().modulus[:-1] + b"\x00")) == (13, None)
    assert chain.result(made(modulus=b"\x7f" + tag_signer().modulus[1:])) == (13, None)
    right = prove_tag_key(tag_signer(), chain.chain_id, ISSUER, 2027)
    for number in range(8):
        parts = [right[at : at + 384] for at in range(0, 3072, 384)]
        parts[number] = parts[number - 1]
        assert chain.result(made(proof=b"".join(parts))) == (13, None), f"signature {number} counts"
    assert chain.result(made(issuer=CLIENT), member=CLIENT) == (13, None), "it issues nothing"
    for year in (1990, 2027, 2200):
        assert chain.result(tag_key(chain.chain_id, year)) == (0, None)


def proposed(chain: TestChain, change, member: int = 1) -> bytes:
    """Propose in a block of its own; the proposal's id."""
    raw = chain.sign(encode_propose(change), member)
    assert chain.results(raw) == [(0, None)]
    return hashing.log_leaf(raw)[:16]


def test_14_proposal_unknown(chain):
    assert chain.result(encode_approve(bytes(16)), member=2) == (14, None)
    proposal = proposed(chain, parameter_set("fee", 1))
    assert chain.result(encode_approve(proposal), member=2) == (0, None)
    assert chain.result(encode_approve(proposal), member=3) == (0, None)
    assert chain.result(encode_approve(proposal), member=4) == (14, None), "accepted is not open"


def test_15_approval_repeated(chain):
    proposal = proposed(chain, parameter_set("fee", 1))
    assert chain.result(encode_approve(proposal), member=1) == (15, None)
    assert chain.result(encode_approve(proposal), member=2) == (0, None)
    assert chain.result(encode_approve(proposal), member=2) == (15, None)


def test_16_not_validator(chain):
    assert chain.result(encode_propose(parameter_set("fee", 1))) == (16, None)
    proposal = proposed(chain, parameter_set("fee", 1))
    assert chain.result(encode_approve(proposal)) == (16, None)
    assert value(chain.view, statekeys.proposal_key(proposal))[2] == [1]


def changes_refused(chain: TestChain) -> dict[str, list]:
    chain_id = chain.chain_id
    new = client(9, "new")
    good = member_set(new, chain_id, [signer(9)])
    v2 = validator(2)
    v8 = validator(8, name="v8")
    keys8 = [signer(8, each) for each in PURPOSES]
    swap = member_replace(2, v8, chain_id, keys8)
    return {
        "replace: nobody": member_replace(77, v8, chain_id, keys8),
        "replace: no number": ["member.replace", "2", *swap[2:]],
        "replace: too long": [*swap, 1],
        "replace: itself": member_replace(2, v2, chain_id, []),
        "replace: a number taken": member_replace(2, replace(v8, number=CLIENT), chain_id, keys8),
        "replace: by one that is suspended": member_replace(
            2, replace(v8, status=MemberStatus.SUSPENDED), chain_id, keys8
        ),
        "replace: by an observer, three validators left": member_replace(
            2, client(8, "new", role=MemberRole.OBSERVER), chain_id, [signer(8)]
        ),
        "replace: the name that leaves": member_replace(2, replace(v8, name="v2"), chain_id, keys8),
        "replace: a key of the one that leaves": member_replace(
            2, replace(v8, vote_key=v2.vote_key), chain_id, [*keys8[:1], signer(2, "vote"), *keys8[2:]]
        ),
        "replace: no proof": [*swap[:4], swap[4][1:]],
        "replace: proof for another number": [*swap[:2], 9, *swap[3:]],
        "unknown": ["member.drop", 1],
        "too long": [*good, 1],
        "no number": ["member.set", "9", good[2], good[3]],
        "no array": ["member.set", 9, 1, good[3]],
        "height": ["member.set", 9, [*good[2][:-1], 4], good[3]],
        "bool as status": ["member.set", 9, [*good[2][:2], True, *good[2][3:]], good[3]],
        "name of another": member_set(client(9, "bank"), chain_id, [signer(9)]),
        "name of the policy file": member_set(client(9, "none"), chain_id, [signer(9)]),
        "key of another": member_set(
            client(9, "new", transaction_key=signer(CLIENT).public_key), chain_id, [signer(CLIENT)]
        ),
        "one key for two purposes": member_set(
            validator(2, vote_key=signer(2).public_key), chain_id, [signer(2)]
        ),
        "no proof": member_set(new, chain_id, []),
        "proof of an old key": member_set(v2, chain_id, [signer(2)]),
        "proof for another chain": member_set(new, bytes(16), [signer(9)]),
        "proof for another number": [*good[:3], member_set(client(10, "x"), chain_id, [signer(9)])[3]],
        "validator without vote key": ["member.set", 2, [*member_set(v2, chain_id, [])[2][:6], None], []],
        "client with a vote key": member_set(
            client(9, "new", vote_key=signer(9, "vote").public_key), chain_id, [signer(9), signer(9, "vote")]
        ),
        "three validators left": member_set(validator(2, status=MemberStatus.SUSPENDED), chain_id, []),
        "parameter name": parameter_set("Fee", 1),
        "parameter bool": parameter_set("fee", True),
        "parameter too large": parameter_set("fee", 2**63),
        "schema there already": schema_register(encode_schema(BUILTIN[0])),
        "no schema": schema_register(b"\x90"),
        "schema as text": ["schema.register", "x"],
    }


def test_17_change_invalid(chain):
    for what, change_ in changes_refused(chain).items():
        assert chain.result(encode_propose(change_), member=1) == (17, None), what
    assert chain.result(
        encode_propose(member_set(client(9, "new"), chain.chain_id, [signer(9)])), member=1
    ) == (0, None)


def test_18_change_pending_until_it_is_in_force(chain):
    second = encode_propose(parameter_set("fee", 2))
    proposal = proposed(chain, parameter_set("fee", 1))
    assert chain.result(second, member=2) == (18, None)
    approvals = [chain.sign(encode_approve(proposal), member) for member in (2, 3)]
    assert chain.results(*approvals, chain.sign(second, 2)) == [(0, None), (0, None), (18, None)]
    assert chain.result(second, member=2) == (18, None), "accepted, not yet in force"
    assert chain.result(second, member=2) == (0, None)


def test_the_first_failing_rule_gives_the_code(chain):
    everything_wrong = attest(group(1, schema=200, status=9), kind=9, year=2024, through="x")
    assert chain.result(everything_wrong) == (3, None)
    assert chain.result(attest(group(1, schema=200, status=9), year=2024, through="x")) == (4, 0)
    assert chain.result(attest(group(1, status=9), year=2024, through="x")) == (5, None)
    assert chain.result(attest(group(1, 2), group(3, tag=2, status=9), through="x")) == (6, 0)
    assert chain.result(attest(group(50, status=9), through="x")) == (7, 0)


def test_a_member_in_force_signs_with_its_present_key_only(chain):
    rotated = replace(member_of(chain.view, ISSUER), transaction_key=signer(ISSUER, generation=1).public_key)
    change_ = member_set(rotated, chain.chain_id, [signer(ISSUER, generation=1)])
    proposal = proposed(chain, change_)
    chain.results(*[chain.sign(encode_approve(proposal), member) for member in (2, 3)])
    assert chain.result(attest(group(60))) == (0, None), "not yet in force"
    executed = chain.execute(chain.sign(attest(group(61))))
    assert [reason for _, reason in executed.skipped] == ["member_inactive"]
    chain.signers[ISSUER, "transaction"] = signer(ISSUER, generation=1)
    assert chain.result(attest(group(61))) == (0, None)
    assert member_of(chain.view, ISSUER).height == chain.tip.height


def test_results_decode_in_one_form():
    result = Result(bytes(32), 6, 17)
    assert decode_result(encode_result(result)) == result
    assert result.name == "record_exists"
    impairing = Result(bytes(32), 0, None, (0, 3, 255))
    assert decode_result(encode_result(impairing)) == impairing
    for wrong in (
        *([bytes(31), 0, None], [bytes(32), 99, None], [bytes(32), True, None], [bytes(32), 0], 1),
        *(
            [bytes(32), 0, None, each]
            for each in ([], None, [256], [3, 3], [4, 3], [True], [-1], list(range(257)))
        ),
        *([bytes(32), 11, None, [0]], [bytes(32), 0, None, [0], [0]]),
    ):
        with pytest.raises(FormatError):
            decode_result(canonical.encode(wrong))
    with pytest.raises(EncodingError):
        decode_result(encode_result(result) + b"\x00")


def test_limits_of_a_transaction(chain):
    full = group(*range(100, 100 + limits.attest_entries_max))
    assert chain.result(attest(full)) == (0, None)
    with pytest.raises(FormatError, match="at most 1020 entries"):
        encode_attest(INVOICE, 2025, None, [group(*range(2000, 3000)), group(*range(21), tag=2)])
