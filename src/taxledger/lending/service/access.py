"""Who may call what, and who sees which loans. Keys are the composition root's (``Callers``).

Invariants:

* A platform (``lend_apply``) sees the loans of its own channel, and is told of any other that there is none.
* The channel is the name of the caller's key, never something that a request says. Two keys of one name are one
  channel, so that a key can be changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from taxledger.api.problems import ProblemError
from taxledger.ledger.errors import RefusedError
from taxledger.lending.loans.loan import Loan

__all__ = ["APPLY", "CORE", "OFFICER", "Caller", "Callers", "caller_of", "check_visible", "needs"]

APPLY, OFFICER, CORE = "lend_apply", "lend_officer", "lend_core"

_bearer = HTTPBearer(
    scheme_name="ApiKey",
    auto_error=False,
    description="An API key `tl_<id>_<secret>`, made by `taxledger lend key create`.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose key it is.

    Attributes:
        key: its id; may stand in logs.
        name: the channel of what it hands in.
        scopes: of ``lend_apply``, ``lend_officer``, ``lend_core``.
    """

    key: str
    name: str
    scopes: frozenset[str]

    @property
    def sees_all(self) -> bool:
        return not self.scopes.isdisjoint((OFFICER, CORE))


class Callers(Protocol):
    """Where the service finds a key."""

    def find(self, token: str) -> Caller | None:
        """The caller of a token, or None; takes the same time for a wrong secret as for a right one."""


def needs(*scopes: str) -> Any:
    """A dependency: the request carries a known key with one of the scopes. Runs before a body is read."""

    def check_scope(request: Request, _credentials: object = Depends(_bearer)) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ProblemError("key_missing", "send the header Authorization: Bearer tl_…")
        callers: Callers = request.app.state.context.callers
        caller = callers.find(token.strip())
        if caller is None:
            raise ProblemError("key_unknown", "the service does not know the key; it may have been revoked")
        request.state.caller = caller
        request.state.api_key_id = caller.key  # for the line in the log
        if caller.scopes.isdisjoint(scopes):
            raise ProblemError("scope_missing", f"this route needs the scope {' or '.join(scopes)}")

    # The marker lets a test find every route that lacks one.
    check_scope.scopes = scopes  # type: ignore[attr-defined]
    return Depends(check_scope)


def caller_of(request: Request) -> Caller:
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


def check_visible(caller: Caller, loan: Loan) -> None:
    """Returns when the caller may see the loan. Raises RefusedError ``loan_unknown``, as for one that is not there."""
    if not caller.sees_all and loan.application.channel != caller.name:
        raise RefusedError("loan_unknown", f"no loan {loan.id!r:.40}")
