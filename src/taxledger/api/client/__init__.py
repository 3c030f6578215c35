"""The verifying client: what a bank embeds. Needs neither the web framework nor the store.

``Client`` and ``AsyncClient`` are thin: every question, every check and every decision to try again is in the
modules beside them, which do no input or output.
"""

from __future__ import annotations

from taxledger.api.client.aio import AsyncClient
from taxledger.api.client.consents import VerifiedConsent, VerifiedConsents
from taxledger.api.client.reading import VerifiedState, VerifiedTransaction
from taxledger.api.client.sync import Client
from taxledger.api.events import Event, EventId

__all__ = [
    "AsyncClient",
    "Client",
    "Event",
    "EventId",
    "VerifiedConsent",
    "VerifiedConsents",
    "VerifiedState",
    "VerifiedTransaction",
]
