"""From the policies that an archive names to those that its verifier holds."""

from __future__ import annotations

from collections.abc import Sequence

from taxledger.ledger.errors import VerificationError
from taxledger.ledger.policies import HeldPolicy, Policies
from taxledger.lending.archive.format import Archive

__all__ = ["policies_named"]


def policies_named(archive: Archive, policies: Policies, decided: int) -> list[Sequence[HeldPolicy]]:
    """The verifier's own policies of each decision, in order: several where only log keys changed.

    All at once and before anything is verified, so that what is missing is said first.

    Args:
        archive: what names them; nothing is trusted by that.
        policies: the verifier's own.
        decided: how many decisions the archive has.

    Raises:
        VerificationError: ``archive_policy_mismatch``.
    """
    if archive.policy_digest is not None:
        return [_of_one_file(archive.policy_digest, policies)] * decided
    if len(archive.policies) != decided:
        raise _refused("one policy for each decision", decided, len(archive.policies))
    found: list[Sequence[HeldPolicy]] = []
    for number, named in enumerate(archive.policies, start=1):
        held = policies.of(named.origin, named.validators_hash)
        if not held:
            raise _refused(
                f"decision {number} needs {named.text}: give your own file of it as one more policy",
                named.validators_hash.hex(),
                ", ".join(each.policy.validators_hash.hex() for each in policies.held),
            )
        names = tuple(sorted(held[0].policy.witnesses))
        if names != named.names:
            raise _refused(f"names of the validators of decision {number}", names, named.names)
        found.append(held)
    return found


def _of_one_file(digest: bytes, policies: Policies) -> Sequence[HeldPolicy]:
    """Of an archive of the first version."""
    same = [each for each in policies.held if each.digest == digest]
    if not same:
        raise _refused(
            "made under another policy file: give that of its time",
            digest.hex(),
            ", ".join(each.digest.hex() for each in policies.held),
        )
    return same


def _refused(message: str, expected: object, got: object) -> VerificationError:
    return VerificationError("archive_policy_mismatch", message, expected=expected, got=got)
