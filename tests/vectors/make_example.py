"""The worked example of docs/protocol.md §14: one record, one validator, every hash on the way to the answer.

    python tests/vectors/make_example.py      # prints the section's text

The network's bytes are made by our own code; every hash shown is computed here from the formulas of the page.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

import world

from taxledger.ledger import canonical


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def tagged(what: str, *parts: bytes) -> bytes:
    return sha(f"taxledger/{what}/1".encode(), *parts)


def inner(bit: int, left: bytes, right: bytes) -> bytes:
    return sha(b"\x01", bit.to_bytes(2, "big"), left, right)


def small_world() -> world.World:
    return world.World(
        specs=(world.rating(2024),),
        tag_years=(2024,),
        through={world.RATING: "2024-12-31"},
        height=1,
        validators=("tax",),
        schemas={(world.RATING, 1): world.SCHEMAS[world.RATING, 1]},
    )


def example() -> dict[str, Any]:
    """The values of the example by name; bytes as hex, in the order of the page."""
    small = small_world()
    query = world.ask((world.RATING,))
    evidence = small.evidence(query)
    items = canonical.decode(evidence)
    _, _, _, note, header, inclusion, entries, schemas, tags, records, proof = items
    prefix, end, value, _, secret, [fields] = records[0]
    key = prefix + end
    schema = canonical.decode(schemas[0])
    salts = [hmac.digest(secret, b"taxledger/salt/1" + bytes([0, i]), "sha256")[:16] for i in range(2)]
    named = [canonical.encode([schema[5][i][0], fields[i]]) for i in range(2)]
    digests = [tagged("field", salts[i], named[i]) for i in range(2)]
    bound = small.chain_id + key + (1).to_bytes(4, "big")
    commitment = tagged("commitment", bound, *digests, bytes(32 * 3))
    pairs = {key: value, **dict(entries)}
    leaves = {each[0]: sha(b"\x00", sha(each), sha(content)) for each, content in pairs.items()}
    inner5 = inner(5, leaves[1], leaves[6])
    inner7 = inner(7, leaves[8], leaves[9])
    inner6 = inner(6, inner7, leaves[0x0A])
    state_root = inner(4, inner5, inner6)
    header_hash = sha(b"\x00", header)
    root = sha(b"\x01", inclusion[0], header_hash)
    return {
        "query": query.as_list(),
        "now_ms": world.NOW_MS,
        "policy": small.policy_bytes.decode(),
        "evidence": evidence.hex(),
        "chain_id": small.chain_id.hex(),
        "modulus": canonical.decode(pairs[b"\x0a\x00\x01\x07\xe8"])[0].hex(),
        "tag_message": canonical.encode(
            ["taxledger/tag/1", small.chain_id, query.subject, world.RATING, 2024]
        ).hex(),
        "sigma": tags[0][2].hex(),
        "tag": tagged("tag", tags[0][2])[:16].hex(),
        "key": key.hex(),
        "secret": secret.hex(),
        "fields": fields,
        "salts": [each.hex() for each in salts],
        "named": [each.hex() for each in named],
        "digests": [each.hex() for each in digests],
        "commitment": commitment.hex(),
        "value": value.hex(),
        "entries": [[each.hex(), content.hex()] for each, content in entries],
        "schema": schemas[0].hex(),
        "leaves": {f"{each:02x}": leaf.hex() for each, leaf in sorted(leaves.items())},
        "inner": {"7": inner7.hex(), "6": inner6.hex(), "5": inner5.hex(), "4": state_root.hex()},
        "proof": proof.hex(),
        "header": header.hex(),
        "header_hash": header_hash.hex(),
        "inclusion": [each.hex() for each in inclusion],
        "root": root.hex(),
        "note": note.decode(),
    }


def short(text: str) -> str:
    return f"{text[:16]}…{text[-8:]}"


def section() -> str:
    """The text of §14 below its heading."""
    e = example()
    key, leaves, nodes, proof = e["key"], e["leaves"], e["inner"], e["proof"]
    note = e["note"].split("\n")
    shown_key = " ".join((key[:2], key[2:6], key[6:8], key[8:40], key[40:42], key[42:]))
    size = len(e["evidence"]) // 2
    digest = sha(bytes.fromhex(e["evidence"])).hex()
    parts = f"01 0004 01 0005 02 {short(leaves['01'])} 05 01 0006 01 0007 05 05 05"
    header = canonical.decode(bytes.fromhex(e["header"]))
    lines = [
        f"One validator, so q = 1; one block; one record, the credit rating of 2024 (kind {world.RATING}) of",
        f"`{e['query'][0]}`, asked for {e['query'][3]} to {e['query'][4]} of issuer 1. The file has {size:,} bytes "
        f"(SHA-256 `{short(digest)}`);",
        "all bytes of this page's example are in `tests/vectors/example.json`. H(…) is as defined at the top, … cuts.",
        "",
        "```",
        f"chain_id      {e['chain_id']}",
        f'message       {e["tag_message"][:34]}…     msgpack ["taxledger/tag/1", chain_id, subject, 3, 2024]',
        f"σ             {short(e['sigma'])}        384 bytes; σ^65537 mod {short(e['modulus'])} is the padded message",
        f'tag           {e["tag"]}   H("tag", σ)[:16]',
        f"map key       {shown_key}",
        f"secret        {e['secret']}",
        f'fields        {canonical.encode(e["fields"]).hex()}   [2024, "A", nil, nil, nil]',
        f'salt_0        {e["salts"][0]}   HMAC(secret, "salt", 0000)[:16]',
        f'digest_0      {e["digests"][0]}   H("field", salt_0 ‖ {e["named"][0]})',
        f'digest_1      {e["digests"][1]}   H("field", salt_1 ‖ {e["named"][1]})',
        "digest_2 … 4  32 zero bytes each",
        f'commitment    {e["commitment"]}   H("commitment", chain_id ‖ map key ‖ 00000001 ‖ digests)',
        f"map value     {e['value'][:12]} {short(e['value'][12:76])} {e['value'][76:]}"
        "   [1, 1, 1, commitment, nil, 1]",
        "",
        *(
            f"leaf of {name:<13} {leaves[name[:2]]}"
            for name in ("01 0001 03 …", "06 0001", "08 03 01", "09 0001 03", "0a 0001 07e8")
        ),
        f"bit 5 (01, 06)        {nodes['5']}   first bytes 00000001, 00000110",
        f"bit 7 (08, 09)        {nodes['7']}   first bytes 00001000, 00001001",
        f"bit 6 (08 09, 0a)     {nodes['6']}",
        f"bit 4 = state_root    {nodes['4']}",
        f"proof                 {len(proof) // 2} bytes: {parts}",
        "",
        f"header leaf   {len(e['header']) // 2} bytes: height {header[3]}, first_index {header[6]}, "
        f"transactions {header[7]}, so index {header[6] + header[7]}, size {header[6] + header[7] + 1}",
        f"its leaf hash {e['header_hash']}",
        f"inclusion     {e['inclusion'][0]}   of leaves 0 and 1",
        f"root          {e['root']}   SHA256(01 ‖ inclusion ‖ leaf hash)",
        "",
        *note[:3],
        "",
        *(line[:64] + "…" for line in note[4:-1]),
        "```",
        "The first signature line is the log's over the three lines above the empty one, each with its LF; "
        f"the other is the co-signature of second {world.NOW_S}.",
        f"At now = {e['now_ms']} ms the answer is: height 1, size {note[1]}, age 0; kind 3, year 2024, month 0, "
        "valid, version 1, `year` 2024, `grade` A;",
        "attested through 2024-12-31, so complete. Every other structure as bytes, and what must be refused: "
        "`tests/vectors/README.md`.",
    ]
    return "\n".join(lines) + "\n"


VECTORS = {"example.json": example}

if __name__ == "__main__":
    sys.stdout.write(section())
