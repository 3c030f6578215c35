"""Every error the project raises on purpose.

TaxledgerError                 expected in operation; the message names expected and got
├── InputError                 what a person or peer handed in is wrong; nothing was changed
│   ├── EncodingError          bytes that are not strict canonical msgpack
│   ├── FormatError            well-encoded bytes of the wrong shape or value
│   └── LimitError             larger than a limit of ``limits.py``
├── VerificationError          a proof, signature or evidence did not verify; ``code`` says why
├── RefusedError               a rule of the ledger or a member refused; ``code`` says which
└── UnavailableError           storage or network trouble: try again later

InvariantError                 a bug of ours, outside the tree: the process must stop
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "EncodingError",
    "FormatError",
    "InputError",
    "InvariantError",
    "LimitError",
    "RefusedError",
    "TaxledgerError",
    "UnavailableError",
    "VerificationError",
    "check",
]


class TaxledgerError(Exception):
    """Root of everything that can be expected in operation."""


class InputError(TaxledgerError):
    """What was handed in is wrong, and nothing was changed by it."""


class EncodingError(InputError):
    """Bytes that are not strict canonical msgpack."""


class FormatError(InputError):
    """Well-encoded bytes whose shape or values are not what the format says."""


class LimitError(InputError):
    """Larger than one of the limits in ``limits.py``."""


class VerificationError(TaxledgerError):
    """A proof, signature or piece of evidence did not verify.

    Attributes:
        code: the one specific reason, from the table in docs/protocol.md §10.
        expected: what would have verified, or None.
        got: what was found, or None.
    """

    def __init__(self, code: str, message: str, *, expected: Any = None, got: Any = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.expected = expected
        self.got = got


class RefusedError(TaxledgerError):
    """A rule of the ledger, or a member, refused.

    Attributes:
        code: the specific reason.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class UnavailableError(TaxledgerError):
    """Storage or network trouble: nothing is known to be wrong, try again later."""


class InvariantError(Exception):
    """A bug of ours. Deliberately outside the tree: nobody may catch it and go on."""


def check(condition: object, message: str) -> None:
    """Stop the process when an invariant does not hold (alive under ``-O``, unlike assert)."""
    if not condition:
        raise InvariantError(message)
