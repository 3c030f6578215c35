"""One contract for all key providers, and what each adds: files, tokens, the choice of a home."""

from __future__ import annotations

import dataclasses
import secrets
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from custodykit import key_file
from hsmkit import PIN, TOKEN, write_pin
from rotationkit import make_home
from test_sealed_store import NOTES, get, put

from taxledger.ledger.errors import FormatError, InputError, TaxledgerError, UnavailableError
from taxledger.nodes.home import Home
from taxledger.nodes.homeconfig import decode_config, encode_config
from taxledger.nodes.sealed import sealing
from taxledger.nodes.sealed.homekeys import has_key_provider, open_key_provider
from taxledger.nodes.sealed.providers import (
    FileKeyProvider,
    KeyProvider,
    decode_wrapped,
    encode_wrapped,
    wrap_context,
    wrapped_by,
)
from taxledger.nodes.sealed.rotation import write_vault
from taxledger.nodes.sealed.store import sealed_store
from taxledger.nodes.vaultconfig import KeySource, VaultConfig, decode_vault, encode_vault, replace_vault

PURPOSE = "vault.rows"


class Fake:
    """A provider in memory that can be told to fail: before it has wrapped, or after, with the answer lost."""

    name = "fake:1"

    def __init__(self, fail_at: int = -1, *, after: bool = False) -> None:
        self._key = sealing.new_key()
        self.calls = 0
        self.fail_at = fail_at
        self._after = after

    def _count(self, *, after: bool) -> None:
        if after == self._after and self.calls == self.fail_at:
            raise UnavailableError("the device went away")

    def wrap(self, data_key: bytes, purpose: str) -> bytes:
        self._count(after=False)
        inner = sealing.encrypt(self._key, data_key, wrap_context(self.name, purpose))
        self._count(after=True)
        self.calls += 1
        return encode_wrapped(self.name, inner)

    def unwrap(self, wrapped: bytes, purpose: str) -> bytes:
        self._count(after=False)
        name, inner = decode_wrapped(wrapped)
        found = sealing.decrypt(self._key, inner, wrap_context(name, purpose))
        self._count(after=True)
        self.calls += 1
        if name != self.name or found is None:
            raise FormatError("the vault does not open: another fake")
        return found


Make = Callable[[], KeyProvider]
"""Another object for the same key, as in a later process."""


@pytest.fixture(params=["file", "pkcs11", "home", "fake"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Make, KeyProvider]:
    """(how to open the provider again, one with another key)."""
    if request.param == "pkcs11":
        module = request.getfixturevalue("hsm")
        label = secrets.token_hex(4)
        token_key(module, label).create()
        other = token_key(module, label + "-other")
        other.create()
        return lambda: token_key(module, label), other
    if request.param == "home":
        home = make_home(tmp_path)
        return lambda: open_key_provider(home), key_file(tmp_path, bytes(32))
    if request.param == "fake":
        fake = Fake()
        return lambda: fake, Fake()
    path = tmp_path / "one"
    path.mkdir()
    return lambda: key_file(path), key_file(tmp_path, bytes(32))


def token_key(module: str, label: str, pin: str = PIN):  # type: ignore[no-untyped-def]
    from taxledger.nodes.sealed.hsm import Pkcs11KeyProvider

    return Pkcs11KeyProvider(module=module, token=TOKEN, label=label, pin=lambda: pin)


def test_the_contract(make: tuple[Make, KeyProvider]) -> None:
    again, other = make
    data_key = secrets.token_bytes(32)
    wrapped = again().wrap(data_key, PURPOSE)
    assert again().unwrap(wrapped, PURPOSE) == data_key
    assert again().wrap(data_key, PURPOSE) != wrapped
    assert data_key not in wrapped
    assert data_key[:8] not in wrapped
    name = again().name
    assert wrapped_by(wrapped) == name
    assert name.isascii()
    assert name.isprintable()

    refused: list[str] = []

    def refuses(provider: KeyProvider, bad: bytes, purpose: str = PURPOSE) -> None:
        with pytest.raises(FormatError) as caught:
            provider.unwrap(bad, purpose)
        refused.append(str(caught.value))

    refuses(again(), wrapped, "vault.years")
    refuses(other, wrapped)
    refuses(again(), other.wrap(data_key, PURPOSE))
    _, inner = decode_wrapped(wrapped)
    other_name, other_inner = decode_wrapped(other.wrap(data_key, PURPOSE))
    refuses(again(), encode_wrapped(name, other_inner))
    refuses(again(), encode_wrapped(other_name + "x", inner))
    for at in (0, 1, len(wrapped) - len(inner), len(wrapped) - 40, len(wrapped) - 1):
        refuses(again(), wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :])
    for size in (0, 1, 12, len(wrapped) - 60, len(wrapped) - 1):
        refuses(again(), wrapped[:size])
    assert again().unwrap(wrapped, PURPOSE) == data_key, "still well after all that"
    assert not any(data_key.hex() in each or PIN in each for each in refused)


@pytest.mark.parametrize("after", [False, True])
def test_a_provider_that_fails_anywhere_costs_nothing(tmp_path: Path, after: bool) -> None:
    fake = Fake(after=after)
    path = tmp_path / "notes.sqlite"
    failed = 0
    for fake.fail_at in range(20):
        fake.calls = 0
        try:
            store = sealed_store(path, NOTES, fake)
            put(store, bytes([fake.fail_at]), b"content")
        except UnavailableError:
            failed += 1
            continue
        store.close()
    fake.fail_at = -1
    store = sealed_store(path, NOTES, fake)
    keys = [key for (key,) in store.database.all("SELECT key FROM notes")]
    assert [get(store, key) for key in keys] == [b"content"] * (20 - failed)
    assert 2 <= failed < 20


def test_a_key_file_is_read_each_time_and_only_by_its_owner(tmp_path: Path) -> None:
    provider = key_file(tmp_path)
    path = next((tmp_path / "keys").iterdir())
    wrapped = provider.wrap(bytes(32), PURPOSE)
    path.chmod(0o640)
    with pytest.raises(InputError, match="mode 0600"):
        provider.unwrap(wrapped, PURPOSE)
    path.chmod(0o600)
    path.write_text("12 not hex")
    with pytest.raises(FormatError, match="64 hex digits"):
        provider.wrap(bytes(32), PURPOSE)
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        _ = FileKeyProvider(path).name


def test_a_token_says_what_is_wrong(hsm: str, tmp_path: Path) -> None:
    import pkcs11
    from pkcs11 import Attribute, KeyType

    from taxledger.nodes.sealed.hsm import Pkcs11KeyProvider

    label = secrets.token_hex(4)
    key = token_key(hsm, label)
    assert not key.exists()
    with pytest.raises(InputError, match="none of that label"):
        key.wrap(bytes(32), PURPOSE)
    key.create()
    assert key.exists()
    with pytest.raises(InputError, match="expected a new label"):
        key.create()
    wrapped = key.wrap(bytes(32), PURPOSE)
    with pytest.raises(InputError, match="the PIN was refused") as refused:
        token_key(hsm, label, "wrong-pin").unwrap(wrapped, PURPOSE)
    assert "wrong-pin" not in str(refused.value)
    away = Pkcs11KeyProvider(module=hsm, token="nowhere", label=label, pin=lambda: PIN)
    with pytest.raises(UnavailableError, match="token nowhere"):
        away.wrap(bytes(32), PURPOSE)
    missing = Pkcs11KeyProvider(module=str(tmp_path / "no.so"), token=TOKEN, label=label, pin=lambda: PIN)
    with pytest.raises(UnavailableError, match=r"no\.so"):
        missing.wrap(bytes(32), PURPOSE)

    with pkcs11.lib(hsm).get_token(token_label=TOKEN).open(rw=True, user_pin=PIN) as session:
        stored = session.get_key(label=label)
        assert not stored[Attribute.EXTRACTABLE]
        with pytest.raises(pkcs11.AttributeSensitive):
            _ = stored[Attribute.VALUE]
        loose = {Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False}
        session.generate_key(KeyType.AES, 256, label=f"{label}-loose", store=True, template=loose)
        for _ in range(2):
            session.generate_key(KeyType.AES, 256, label=f"{label}-twice", store=True)
    with pytest.raises(InputError, match="can be taken out"):
        token_key(hsm, f"{label}-loose").wrap(bytes(32), PURPOSE)
    with pytest.raises(InputError, match="several of that label"):
        token_key(hsm, f"{label}-twice").wrap(bytes(32), PURPOSE)
    key.destroy()
    with pytest.raises(InputError, match="none of that label"):
        key.unwrap(wrapped, PURPOSE)


def test_a_home_chooses(hsm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path)
    assert has_key_provider(home)
    assert open_key_provider(home).name.startswith("file:")
    label = secrets.token_hex(4)
    token_key(hsm, label).create()
    pin = write_pin(home.path / "keys" / "pin")
    source = KeySource(provider="pkcs11", module=hsm, token=TOKEN, label=label, pin_file="keys/pin")
    write_vault(home.path, VaultConfig(rows=source))
    keys = open_key_provider(Home(home.path))
    assert keys.name == f"pkcs11:{TOKEN}/{label}"
    wrapped = keys.wrap(bytes(32), PURPOSE)
    pin.chmod(0o644)
    with pytest.raises(InputError, match="mode 0600"):
        keys.unwrap(wrapped, PURPOSE)
    write_vault(home.path, VaultConfig(rows=dataclasses.replace(source, pin_file="")))
    with pytest.raises(InputError, match="TAXLEDGER_VAULT_PIN"):
        keys.unwrap(wrapped, PURPOSE)
    monkeypatch.setenv("TAXLEDGER_VAULT_PIN", PIN)
    assert keys.unwrap(wrapped, PURPOSE) == bytes(32), "node.toml is read at each call"
    (home.path / "keys" / "vault.key").unlink()
    assert has_key_provider(Home(home.path))
    write_vault(home.path, VaultConfig())
    with pytest.raises(InputError, match="cannot read"):
        open_key_provider(Home(home.path))
    assert not has_key_provider(Home(home.path))


def test_without_the_library_a_token_is_refused_clearly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path)
    write_vault(home.path, VaultConfig(rows=KeySource(provider="pkcs11", module="m", token="t", label="l")))
    monkeypatch.delitem(sys.modules, "taxledger.nodes.sealed.hsm", raising=False)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(UnavailableError, match=r"taxledger\[hsm\]"):
        open_key_provider(Home(home.path))


TOKEN_SOURCE = KeySource(provider="pkcs11", module="/m.so", token="t 1", label="l", pin_file="pin")


@pytest.mark.parametrize(
    "vault",
    [
        VaultConfig(),
        VaultConfig(rows=TOKEN_SOURCE),
        VaultConfig(rows_next=TOKEN_SOURCE),
        VaultConfig(years=KeySource(file="keys/years.key")),
        VaultConfig(
            rows=KeySource(file="a"), rows_next=TOKEN_SOURCE, years=TOKEN_SOURCE, years_next=KeySource()
        ),
        VaultConfig(years_next=KeySource(file="b")),
    ],
)
def test_node_toml_keeps_the_choice_and_everything_else(tmp_path: Path, vault: VaultConfig) -> None:
    config = dataclasses.replace(make_home(tmp_path).config, vault=vault)
    text = encode_config(config)
    assert decode_config(tomllib.loads(text)) == config
    commented = text.replace("[api]", "# a remark\n[api]  # another")
    for other in (VaultConfig(), VaultConfig(rows=TOKEN_SOURCE, years=KeySource(file="z")), vault):
        changed = replace_vault(commented, other)
        assert decode_config(tomllib.loads(changed)) == dataclasses.replace(config, vault=other)
        assert "# a remark\n[api]  # another" in changed
    assert replace_vault(text, vault).strip() == text.strip()
    assert decode_vault(tomllib.loads(encode_vault(vault))) == vault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vault = 1", "table"),
        ("[vault]\nprovider = 'cloud'", "one of file, pkcs11"),
        ("[vault]\nfile = 'x'", "provider"),
        ("[vault]\nprovider = 'pkcs11'\nmodule = 'm'", "label, module, pin_file, token"),
        ("[vault]\nprovider = 'file'\npin = '1'", "to have file"),
        ("[vault]\nprovider = 'file'\nfile = 3", "vault.file"),
        ("[vault]\nprovider = 'file'\nfile = 'a\"b'", "printable"),
        ("[vault.old]\nprovider = 'file'", "got old"),
        ("[vault.years.years]\nprovider = 'file'", "got years"),
        ("[vault]\nnext = 1\nprovider = 'file'", "table|have"),
    ],
)
def test_a_wrong_choice_is_refused(text: str, message: str) -> None:
    with pytest.raises(TaxledgerError, match=message):
        decode_vault(tomllib.loads(text))
