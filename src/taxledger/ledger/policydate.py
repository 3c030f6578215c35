"""When a policy file was last verified: its comment line ``# taxledger policy: verified <instant> size <n>``.

Other readers of C2SP ``tlog-policy`` see a comment. Those who left the network keep their keys, and nobody can say
what becomes of these, so a policy may be followed to a newer one only for so long (docs/protocol.md §18): the
*trust period*, counted from this line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from taxledger.ledger import limits
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.hashing import sha256

__all__ = ["Verified", "check_trusted", "policy_digest", "read_verified", "verified_line", "with_verified"]

_BEGIN = b"# taxledger policy:"
_LINE = re.compile(
    rb"# taxledger policy: verified "
    rb"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z) size (0|[1-9][0-9]{0,18})"
)
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How far a policy is known to be good.

    Attributes:
        time_s: a quorum of its witnesses, and no others, certified then; seconds since 1970.
        size: leaves of the log that they certified; 0 where that is not known.
    """

    time_s: int
    size: int

    @property
    def text(self) -> str:
        """The instant in ISO 8601, UTC, whole seconds."""
        return (_EPOCH + self.time_s * _SECOND).strftime(_FORMAT)


def verified_line(verified: Verified) -> bytes:
    """The comment line, with its line feed."""
    return f"# taxledger policy: verified {verified.text} size {verified.size}\n".encode()


def read_verified(data: bytes) -> Verified | None:
    """What the line of a policy file says; None where it has none.

    Raises:
        FormatError: a line that begins so and does not go on so, or a second one.
    """
    lines = [line for line in data.split(b"\n") if line.startswith(_BEGIN)]
    if not lines:
        return None
    match = _LINE.fullmatch(lines[0])
    if match is None or len(lines) > 1 or int(match[2]) > limits.integer_max:
        raise FormatError(
            "policy: expected one line '# taxledger policy: verified YYYY-MM-DDThh:mm:ssZ size <n>', "
            f"got {len(lines)}: {lines[0][:80]!r}"
        )
    try:
        instant = datetime.strptime(match[1].decode(), _FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise FormatError(f"policy: expected an instant of the calendar, got {match[1]!r}") from error
    return Verified(time_s=(instant - _EPOCH) // _SECOND, size=int(match[2]))


def with_verified(data: bytes, verified: Verified) -> bytes:
    """The policy file with this line in the place of the one it has."""
    return verified_line(verified) + _without_line(data)


def _without_line(data: bytes) -> bytes:
    return b"\n".join(line for line in data.split(b"\n") if not line.startswith(_BEGIN))


def policy_digest(data: bytes) -> bytes:
    """SHA-256 of a policy file without the line: the same trust root, whenever it was last verified."""
    return sha256(_without_line(data))


def check_trusted(verified: Verified | None, *, now_ms: int, trust_ms: int) -> None:
    """Returns when a policy was verified within the trust period.

    Args:
        verified: of the file.
        now_ms: the present instant.
        trust_ms: the period.

    Raises:
        VerificationError: ``policy_expired``.
    """
    if verified is None:
        raise VerificationError(
            "policy_expired", "the policy does not say when it was verified", expected="a line 'verified …'"
        )
    age_ms = now_ms - verified.time_s * 1_000
    if age_ms < -limits.cosignature_ahead_ms_max:
        raise VerificationError("policy_expired", "the policy's date is in the future", got=verified.text)
    if age_ms > trust_ms:
        raise VerificationError(
            "policy_expired",
            "the policy was verified too long ago: get the network's present policy from its operators",
            expected=f"at most {trust_ms // 86_400_000} days ago",
            got=verified.text,
        )
