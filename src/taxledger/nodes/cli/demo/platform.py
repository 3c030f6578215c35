"""The platform's side: it hands an application in, and the enterprise's acceptance, over the lender's HTTP API."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from taxledger.ledger.errors import UnavailableError, VerificationError
from taxledger.nodes.cli.demo import lender
from taxledger.nodes.cli.demo.lender import Request
from taxledger.nodes.cli.demo.stage import Stage
from taxledger.nodes.cli.lend.keys import keys_path
from taxledger.nodes.cli.lend.opening import lending_folder

__all__ = ["accept_offer", "hand_in", "serving"]

_STOP_S = 30
_WAIT_S = 60


@contextmanager
def serving(stage: Stage, member: str, name: str) -> Iterator[httpx.Client]:
    """``taxledger lend serve`` of a bank, as long as it lasts; the client of a platform that may apply there."""
    from taxledger.api.auth import create_key, save_keys

    token, key = create_key(["lend_apply"], name)
    save_keys(keys_path(lending_folder(stage.home(member))), [key])
    command = [sys.executable, "-m", "taxledger.nodes.cli.main", "lend", "serve"]
    log = stage.folder / "service.log"
    with log.open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 — our own module, no shell
            [*command, "--home", str(stage.home(member)), "--listen", "127.0.0.1:0", "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    try:
        url = _address(process, str(log))
        with httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_WAIT_S + 10,
            trust_env=False,
        ) as client:
            yield client
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _address(process: subprocess.Popen[str], log: str) -> str:
    """Where it listens: the JSON document that it says once it does."""
    text = ""
    assert process.stdout is not None
    for line in process.stdout:
        text += line
        if line.startswith("}"):
            return str(json.loads(text)["url"])
    raise UnavailableError(f"bank1's service did not start: see {log}")


def hand_in(api: httpx.Client, request: Request, artefact: bytes) -> str:
    """Apply, and wait for the decision; the lender's id of the loan."""
    body = {
        "id": request.id,
        "product": request.product,
        "consent": base64.b64encode(artefact).decode(),
        "security": list(request.security),
    }
    loan = str(_answer(api.post("/v1/applications", json=body))["loan"])
    _answer(api.get(f"/v1/loans/{loan}", params={"wait": "decided", "timeout_s": _WAIT_S}))
    return loan


def accept_offer(api: httpx.Client, loan: str, request: Request, *, amount: int, months: int) -> None:
    """Fetch the offer, have the enterprise sign, hand its acceptance in, wait for the pay-out."""
    offer = base64.b64decode(_answer(api.get(f"/v1/loans/{loan}/offer"))["offer"], validate=True)
    signed = lender.signed_acceptance(offer, request, amount=amount, months=months)
    body = {"acceptance": base64.b64encode(signed).decode()}
    _answer(api.post(f"/v1/loans/{loan}/acceptance", json=body))
    _answer(api.get(f"/v1/loans/{loan}", params={"wait": "settled", "timeout_s": _WAIT_S}))


def _answer(response: httpx.Response) -> dict[str, Any]:
    if not response.is_success:
        raise VerificationError(
            "not_as_told",
            f"{response.request.method} {response.request.url.path}",
            expected="success",
            got=f"{response.status_code} {response.text:.200}",
        )
    found: dict[str, Any] = response.json()
    return found
