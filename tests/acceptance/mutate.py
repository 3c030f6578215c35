"""Random changes to a good evidence file: none may verify, and nothing but a refusal may come out.

python tests/acceptance/mutate.py tests/vectors/evidence.json COUNT
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path

from taxledger.ledger.errors import VerificationError
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.schemas import parse_kind
from taxledger.ledger.verify import verify_evidence

_SEED = 20_250_101


def change(data: bytes, chance: random.Random) -> bytes:
    """One to three changes: a byte, a bit, a part cut out, repeated, moved, or noise put in."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at, size = chance.randrange(len(out)), chance.randint(1, 64)
        what = chance.randrange(6)
        if what == 0:
            out[at] = chance.randrange(256)
        elif what == 1:
            out[at] ^= 1 << chance.randrange(8)
        elif what == 2:
            del out[at : at + size]
        elif what == 3:
            out[at:at] = out[at : at + size]
        elif what == 4:
            part = bytes(out[at : at + size])
            del out[at : at + size]
            to = chance.randrange(len(out) + 1)
            out[to:to] = part
        else:
            out[at:at] = chance.randbytes(chance.randint(1, 8))
    return bytes(out)


def main(vectors: Path, count: int) -> None:
    chance = random.Random(_SEED)
    document = json.loads(vectors.read_bytes())
    policy, now_ms = decode_policy(document["policy"].encode()), document["now_ms"]
    codes: Counter[str] = Counter()
    accepted, tried, errors = 0, 0, []
    for _ in range(count):
        good = chance.choice(document["accepted"])
        data = bytes.fromhex(good["evidence"])
        changed = change(data, chance)
        if changed == data:
            continue
        tried += 1
        subject, issuer, kinds, first, last = good["query"]
        query = Query(
            subject=subject,
            issuer=issuer,
            kinds=tuple(each if isinstance(each, int) else parse_kind(each) for each in kinds),
            from_period=first,
            to_period=last,
        )
        try:
            verify_evidence(changed, policy, query, now_ms=now_ms, age_ms_max=600_000)
            accepted += 1
        except VerificationError as refusal:
            codes[refusal.code] += 1
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    known = sorted({each["code"] for each in document["refused"]})
    found = {
        "seed": _SEED,
        "tried": tried,
        "accepted": accepted,
        "codes": codes,
        "errors": errors,
        "known": known,
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
