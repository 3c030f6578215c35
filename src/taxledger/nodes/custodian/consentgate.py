"""Whether a consent is in force, by a state that is fresh enough to know: the one gate before anything is handed out.

The state that counts is this node's newest certified one. A node that is cut off hands out nothing, for it would not
hear of a revocation.
"""

from __future__ import annotations

from collections.abc import Callable

from taxledger.ledger.consentstate import consent_of
from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.nodes.replica import CertifiedState, Replica

__all__ = ["ConsentGate"]

STATE_AGE_MS_MAX = 120_000
"""Local: how old the certified state may be by which a piece leaves; an idle network renews it each 30 s."""


class ConsentGate:
    """Of one custodian.

    Args:
        member: this member's number.
        replica: the certified state.
        is_current: whether this node hears of blocks, and has all. Right after a start it has not, and a
            revocation may be among them.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self, *, member: int, replica: Replica, is_current: Callable[[], bool], now_ms: Callable[[], int]
    ) -> None:
        self._member = member
        self._replica = replica
        self._is_current = is_current
        self._now_ms = now_ms

    def fresh_state(self) -> CertifiedState:
        """The newest certified state. Raises UnavailableError where a revocation might not have arrived."""
        if not self._is_current():
            raise UnavailableError("this node is catching up: a revocation might be among what it lacks")
        state = self._replica.certified
        age_ms = self._now_ms() - (state.cosigned_time_ms or 0)
        if age_ms < -STATE_AGE_MS_MAX:
            # By such a clock a state that has long been too old looks fresh, and a consent is in force again.
            raise UnavailableError(f"the clock here is {-age_ms // 1000} s behind the certified state")
        if age_ms > STATE_AGE_MS_MAX:
            raise UnavailableError(
                f"the certified state here is {age_ms // 1000} s old: a revocation might not have arrived"
            )
        return state

    def check_consent(self, state: CertifiedState, consent: bytes, *, used: bool) -> None:
        """Returns when the consent allows another use, or (``used``) more of one that it was used for.

        Raises:
            RefusedError: the rule's name.
        """
        value = consent_of(state.view, consent)
        if value is None:
            raise RefusedError("consent_unknown", "no such consent is on the ledger")
        if value.custodian != self._member:
            raise RefusedError("consent_custodian_mismatch", "the consent is another custodian's")
        block_ms = state.header.time_ms if state.header is not None else 0
        refusal = value.refusal(max(self._now_ms(), block_ms))
        if refusal is not None and not (used and refusal == "consent_used_up"):
            raise RefusedError(refusal, "the consent does not allow it now")
