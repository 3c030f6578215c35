"""What both shells share: how they set up httpx, and what its failures mean."""

from __future__ import annotations

import random
import ssl
from pathlib import Path
from typing import Any

import httpx

from taxledger.api.client.core import ClientCore
from taxledger.api.client.wire import Answer, Request, RetryLimits, TryAgainError
from taxledger.ledger.errors import InputError, UnavailableError

__all__ = ["Backoff", "answer_of", "connection_error", "http_arguments", "oversized", "request_arguments"]

_CONNECT_S = 5.0


def http_arguments(core: ClientCore, ca: Path | None) -> dict[str, Any]:
    """Arguments of ``httpx.Client`` and ``AsyncClient``.

    Proxies and certificates of the environment are not used: the key goes to the node that was named, or
    nowhere.

    Raises:
        InputError: the file of the authority can't be read.
    """
    try:
        verify: ssl.SSLContext | bool = True if ca is None else ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{ca}: not a certificate authority in PEM") from error
    return {"base_url": core.base_url, "headers": core.headers, "verify": verify, "trust_env": False}


def request_arguments(request: Request) -> dict[str, Any]:
    """Arguments of ``stream`` for a request."""
    return {
        "method": request.method,
        "url": request.path,
        "params": list(request.params),
        "headers": dict(request.headers),
        "content": request.content,
        "timeout": httpx.Timeout(request.timeout_s, connect=_CONNECT_S),
    }


def answer_of(response: httpx.Response, body: bytes) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=headers, body=body)


def connection_error(error: httpx.HTTPError) -> UnavailableError:
    """What a failed connection means to the caller; the message quotes no header and no body."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return UnavailableError("the node's certificate is not of the authority given")  # waiting won't help
    return TryAgainError(f"no answer from the node: {type(error).__name__}")


def oversized(request: Request) -> UnavailableError:
    return UnavailableError(f"the node's answer is larger than {request.bytes_max} bytes")


class Backoff:
    """Pauses between reconnections of an event stream, which may last longer than any one call."""

    def __init__(self, limits: RetryLimits) -> None:
        self._limits = limits
        self._failures = 0

    def worked(self) -> None:
        self._failures = 0

    def pause_s(self, error: TryAgainError) -> float:
        """How long to wait before the next attempt: random, doubling, bounded."""
        self._failures += 1
        bound_s = min(self._limits.pause_s_max, self._limits.first_s * 2 ** min(self._failures, 16))
        return max(random.uniform(0, bound_s), min(error.after_s, self._limits.pause_s_max))  # noqa: S311 jitter
