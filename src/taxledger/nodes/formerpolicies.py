"""The policy files that a home went by before, which lie beside the present one.

policy.txt                  the present one
policy.<8 or 16 hex>.txt    kept by ``policy update`` when the validators or log keys changed
policy-<engine>.txt         kept by a handover to another ordering engine
"""

from __future__ import annotations

import re
from pathlib import Path

from taxledger.ledger import limits
from taxledger.ledger.policies import former_policies

__all__ = ["read_former_policies"]

_FILES_MAX = 256


def read_former_policies(path: Path) -> tuple[bytes, ...]:
    """The former policies beside a policy file, by name.

    A file of such a name that is no dated policy of the same chain, or can't be read, is left out: what it would have
    verified is then refused, with the policy that it needs.

    Args:
        path: the present policy file.

    Raises:
        OSError, InputError: the present one can't be read, or is none.
    """
    name = re.compile(
        re.escape(path.stem) + r"(\.[0-9a-f]{8}|\.[0-9a-f]{16}|-[a-z][a-z0-9-]*)" + re.escape(path.suffix)
    )
    beside = sorted(each for each in path.parent.iterdir() if name.fullmatch(each.name))[:_FILES_MAX]
    return former_policies(path.read_bytes(), [data for each in beside if (data := _read(each)) is not None])


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(limits.policy_bytes_max + 1)
    except OSError:
        return None
    return data if len(data) <= limits.policy_bytes_max else None
