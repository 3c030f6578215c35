"""Keys and scopes: every route × no key, a wrong key, a key without the scope; and the file of keys."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest
from fakenode import FakeNode, Keys, make_app
from test_api_routes import ROUTES

from taxledger.api.auth import SCOPES as SCOPE_NAMES
from taxledger.api.auth import KeyFile, KeyRing, create_key, load_keys, save_keys
from taxledger.api.server import check_bind
from taxledger.ledger.errors import FormatError, InputError, UnavailableError

SCOPES = {
    "/ready": {"read", "operate"},
    "/metrics": {"operate"},
    "/v1/status": {"read", "operate"},
    "/v1/export": {"operate"},
    "/v1/transactions": {"submit"},
    "/v1/openapi.json": set(SCOPE_NAMES),
    "/v1/subjects": {"custody"},
    "/v1/consents": {"custody"},
    "/v1/consents/forward": {"disclose"},
    "/v1/consents/instructions": {"custody"},
    "/v1/consents/list": {"custody"},
    "/v1/consents/receipt": {"custody"},
    "/v1/consents/revocations": {"submit"},
    "/v1/erasures": {"custody"},
    "/v1/dossiers": {"custody", "disclose"},
    "/v1/disclosures": {"disclose"},
    "/v1/disclosures/load": {"disclose"},
    "/v1/disclosures/discard": {"disclose"},
    "/v1/permits": {"pledge"},
    "/v1/pledges": {"pledge"},
    "/v1/pledges/proof": {"pledge", "read"},
    "/v1/pledges/{pledge}/confirm": {"pledge"},
    "/v1/pledges/{pledge}/release": {"pledge"},
    "/v1/pledges/{pledge}/transfer": {"pledge"},
}
"""Whoever adds a route decides here; the others need ``read``."""

KEYED = [route for route in ROUTES if route[1] != "/health"]


def path_of(template: str) -> str:
    path = template.replace("{hexkey}", "060001").replace("{id}", "00" * 32).replace("{pledge}", "00" * 16)
    return path.replace("{path:path}", "0/000") + ("?prefix=06" if template == "/v1/state" else "")


@pytest.mark.parametrize(("method", "template"), KEYED)
async def test_every_route_needs_a_key_with_its_scope(
    node: FakeNode, keys: Keys, method: str, template: str
) -> None:
    transport = httpx.ASGITransport(app=make_app(node, keys))
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:

        async def ask(headers: dict[str, str]) -> tuple[int, str | None]:
            # An unreadable body: a route that looked at it before the key would answer 415.
            async with client.stream(method, path_of(template), headers=headers) as answer:
                if answer.status_code < 400:
                    return answer.status_code, None
                return answer.status_code, json.loads(await answer.aread())["code"]

        good = keys.tokens["all"]
        flipped = good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1]
        for authorization in ("", "Bearer", "Bearer ", good, f"Basic {good}"):
            assert await ask({"Authorization": authorization}) == (401, "key_missing"), authorization
        assert await ask({}) == (401, "key_missing")
        for token in (flipped, good[:-1], good + "A", "tl", "tl_00000000_x", "x" * 5_000, "tl_é_x"):
            sent = {"Authorization": f"Bearer {token}".encode("latin-1")}
            assert await ask(sent) == (401, "key_unknown"), token  # type: ignore[arg-type]
        allowed = SCOPES.get(template, {"read"})
        for scope in SCOPE_NAMES:
            if scope not in allowed:
                assert await ask(keys.header(scope)) == (403, "scope_missing")
            elif template != "/v1/events":  # endless; ASGITransport would wait for its end
                assert (await ask(keys.header(scope)))[0] not in (401, 403)


async def test_a_refused_key_says_how_to_authenticate(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/status", headers={"Authorization": ""})
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_token_is_not_in_the_file_and_opens_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "api_keys.json"
    (first, row), (second, other) = create_key(["read"], "bank's core system"), create_key(["operate"])
    save_keys(path, [row, other])
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.split("_", 2)[2] not in path.read_text()
    assert first.startswith(f"tl_{row.id}_")
    assert len(first) == 55
    ring = KeyRing(load_keys(path))
    assert ring.find(first) == row
    assert ring.find(second) == other
    crossed = f"tl_{row.id}_{second.split('_', 2)[2]}"
    assert ring.find(crossed) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        '[{"id": "00000000"}]',
        '[{"id": "0000000G", "hash": "sha256:%s", "scopes": ["read"], "note": ""}]' % ("0" * 64),
        '[{"id": "00000000", "hash": "md5:0", "scopes": ["read"], "note": ""}]',
        '[{"id": "00000000", "hash": "sha256:%s", "scopes": ["root"], "note": ""}]' % ("0" * 64),
        "[" * 5_000,
    ],
)
def test_a_bad_file_of_keys_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "api_keys.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"api_keys\.json"):
        load_keys(path)


def test_a_file_of_keys_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        load_keys(tmp_path / "none.json")


def test_a_key_is_revoked_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "api_keys.json"
    (first, row), (second, other) = create_key(["read"]), create_key(["read"])
    save_keys(path, [row, other])
    keys = KeyFile(path)
    assert keys.find(first)
    save_keys(path, [other])
    assert keys.find(first) is None
    assert keys.find(second)
    path.write_text("broken")
    os.utime(path, ns=(1, 1))
    for _ in range(2):  # it stays closed
        with pytest.raises(UnavailableError):
            keys.find(second)


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "write"]])
def test_unknown_scopes_are_refused(scopes: list[str]) -> None:
    with pytest.raises(InputError):
        create_key(scopes)


def test_loopback_only_without_a_certificate(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        check_bind(host, None)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.example.org"):
        with pytest.raises(InputError, match="loopback"):
            check_bind(host, None)
        check_bind(host, tmp_path / "node.pem")
