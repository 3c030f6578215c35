"""Delivering alerts by webhook, signed as Standard Webhooks says (standardwebhooks.com).

Invariants:

* Only to https addresses, or plain http on loopback; a redirect is a failure: an alert goes where it was meant to,
  or nowhere.
* An attempt is noted after its answer; a receiver tells repeats by ``webhook-id``.
* No secret and no answer's content is in an error or a log.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

from taxledger.ledger.errors import FormatError, UnavailableError, VerificationError
from taxledger.lending.watch.alerts import Alert, webhook_body
from taxledger.lending.watch.store import Delivery, WatchStore

__all__ = ["Courier", "check_receiver", "pause_ms", "read_delivery"]

_PREFIX = "whsec_"
_SECRET_BYTES = (24, 64)
_TIMEOUT_S = 15.0
_PAUSES_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Between attempts, as the specification recommends: about two and a half days in all."""
_GONE = 410


def check_receiver(url: str, secret: str) -> None:
    """Whether alerts may go there.

    Raises:
        FormatError: another scheme, a password in the address, or a secret that is not ``whsec_`` and base64 of 24 to
            64 bytes.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise FormatError("webhook: expected an address like https://host/path") from error
    if parsed.userinfo or parsed.fragment or not parsed.host:
        raise FormatError("webhook: expected an address without password and fragment")
    if parsed.scheme != "https" and not (parsed.scheme == "http" and _is_loopback(parsed.host)):
        raise FormatError(
            f"webhook: expected https, or http on this machine, got {parsed.scheme}://{parsed.host}"
        )
    try:
        size = len(base64.b64decode(secret.removeprefix(_PREFIX), validate=True))
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"webhook {parsed.host}: expected a secret {_PREFIX}<base64>") from error
    if not secret.startswith(_PREFIX) or not _SECRET_BYTES[0] <= size <= _SECRET_BYTES[1]:
        raise FormatError(
            f"webhook {parsed.host}: expected a secret {_PREFIX}<base64 of {_SECRET_BYTES[0]} to "
            f"{_SECRET_BYTES[1]} bytes>"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def pause_ms(attempts: int) -> int | None:
    """How long after so many failed attempts to try again; None: no more."""
    return _PAUSES_S[attempts - 1] * 1_000 if attempts <= len(_PAUSES_S) else None


def read_delivery(secret: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """What a receiver does with a delivery: check its signature and its instant, then read it.

    Args:
        secret: ``whsec_…``, the same as the sender's.
        headers: of the request, with names in lower case.
        body: as it came.

    Raises:
        VerificationError: ``signature_invalid``: another secret signed it, it was changed, or it is minutes old.
    """
    try:
        found: dict[str, Any] = Webhook(secret).verify(body, dict(headers))
    except WebhookVerificationError as error:
        raise VerificationError("signature_invalid", f"webhook: {error}") from error
    return found


class Courier:
    """Makes due deliveries.

    Args:
        store: where they stand.
        receivers: address -> secret ``whsec_…``.
        now_ms: the clock.
        transport: for tests.

    Raises:
        FormatError: as ``check_receiver``.
    """

    def __init__(
        self,
        store: WatchStore,
        receivers: Mapping[str, str],
        *,
        now_ms: Callable[[], int],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        for url, secret in receivers.items():
            check_receiver(url, secret)
        self._store, self._now_ms = store, now_ms
        self._receivers = {url: Webhook(secret) for url, secret in receivers.items()}
        # Proxies of the environment are not used, and no redirect is followed.
        self._http = httpx.Client(
            transport=transport, timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    def deliver_due(self) -> int:
        """Attempt every delivery that is due, once each; how many arrived.

        One whose address is no longer configured stays pending and is not sent anywhere.
        """
        arrived = 0
        for alert, delivery in self._store.due(self._now_ms()):
            signer = self._receivers.get(delivery.url)
            if signer is not None:
                arrived += self._attempt(alert, delivery, signer)
        return arrived

    def run(self, stop: threading.Event, every_s: float = 1.0) -> None:
        """Go on delivering until ``stop`` is set."""
        while not stop.is_set():
            # A disk that is full now: what could not be noted is due again, under the same id.
            with suppress(UnavailableError):
                self.deliver_due()
            stop.wait(every_s)

    def _attempt(self, alert: Alert, delivery: Delivery, signer: Webhook) -> bool:
        status, said = self._post(alert, delivery.url, signer)
        now_ms = self._now_ms()
        if 200 <= status < 300:
            self._store.note(delivery, state="delivered", next_ms=now_ms, said=said)
            return True
        pause = None if status == _GONE else pause_ms(delivery.attempts + 1)
        state = "failed" if pause is None else "pending"
        self._store.note(delivery, state=state, next_ms=now_ms + (pause or 0), said=said)
        return False

    def _post(self, alert: Alert, url: str, signer: Webhook) -> tuple[int, str]:
        """(status or 0, what to note)."""
        body = webhook_body(alert)
        name = f"msg_{alert.id}"
        instant = datetime.fromtimestamp(self._now_ms() // 1000, UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(int(instant.timestamp())),
            "webhook-signature": signer.sign(name, instant, body.decode()),
        }
        try:
            # Only the status is read: what a receiver answers is nobody's business here.
            with self._http.stream("POST", url, content=body, headers=headers) as response:
                return response.status_code, f"status {response.status_code}"
        except httpx.HTTPError as error:
            return 0, f"no answer: {type(error).__name__}"
