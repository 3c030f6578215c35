"""The tables ``[vault]`` of ``node.toml``: which keys wrap the data keys of a home's sealed stores.

    [vault]              the key in force; without the table, the file keys/vault.key
    [vault.next]         only while a rotation goes on: the key it changes to
    [vault.years]        optional: another key for the data key of year keys
    [vault.years.next]   as above

Standard library alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from taxledger.ledger.errors import FormatError

__all__ = [
    "PROVIDERS",
    "KeySource",
    "VaultConfig",
    "decode_vault",
    "encode_vault",
    "is_years",
    "replace_vault",
]

PROVIDERS = ("file", "pkcs11")
_TEXT = re.compile(r"[ !#-\[\]-~]{1,255}\Z")
"""Printable ASCII without quotation mark and backslash: written to TOML as it is."""
_TABLE = re.compile(r"\s*\[")
_VAULT_TABLE = re.compile(r"\s*\[\s*vault\s*[].]")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where one key-encryption key is.

    Attributes:
        provider: ``file`` or ``pkcs11``.
        file: of the file's key: path, relative to the home.
        module, token, label: of a key in a token: path of the PKCS#11 library, label of the token, label of
            the key.
        pin_file: path of a file of mode 0600 with the token's PIN, relative to the home; empty where the
            environment variable TAXLEDGER_VAULT_PIN holds it.
    """

    provider: str = "file"
    file: str = "keys/vault.key"
    module: str = ""
    token: str = ""
    label: str = ""
    pin_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultConfig:
    """All tables ``[vault…]``.

    Attributes:
        rows: the key in force; ``rows_next`` the one a rotation changes to.
        years: the key of year keys, None where it is the same; ``years_next`` as above.
    """

    rows: KeySource = field(default_factory=KeySource)
    rows_next: KeySource | None = None
    years: KeySource | None = None
    years_next: KeySource | None = None

    @property
    def sources(self) -> tuple[KeySource, ...]:
        """Every key that may have wrapped something."""
        found = (self.rows, self.rows_next, self.years, self.years_next)
        return tuple(dict.fromkeys(each for each in found if each is not None))

    def source(self, purpose: str) -> KeySource:
        """The key that wraps for a purpose now."""
        return self.years if is_years(purpose) and self.years is not None else self.rows

    def pending(self, *, years: bool) -> KeySource | None:
        """The key that a rotation which was cut off changes to."""
        return self.years_next if years else self.rows_next

    def with_next(self, source: KeySource, *, years: bool) -> VaultConfig:
        """A rotation to that key begins."""
        return replace(self, years_next=source) if years else replace(self, rows_next=source)

    def finished(self, *, years: bool) -> VaultConfig:
        """A rotation has ended."""
        if years:
            return replace(self, years=self.years_next or self.years, years_next=None)
        return replace(self, rows=self.rows_next or self.rows, rows_next=None)


def is_years(purpose: str) -> bool:
    """Whether ``[vault.years]`` is for this purpose."""
    return purpose == "vault.years"


_FIELDS = {"file": {"file"}, "pkcs11": {"module", "token", "label", "pin_file"}}
_OPTIONAL = {"file", "pin_file"}


def _source(table: Any, name: str) -> KeySource:
    if not isinstance(table, dict):
        raise FormatError(f"expected [{name}] to be a table")
    own = {key: value for key, value in table.items() if not isinstance(value, dict)}
    provider = own.pop("provider", None)
    if provider not in PROVIDERS:
        raise FormatError(f"expected {name}.provider to be one of {', '.join(PROVIDERS)}, got {provider!r}")
    allowed = _FIELDS[provider]
    unknown, missing = set(own) - allowed, allowed - _OPTIONAL - set(own)
    if unknown or missing:
        raise FormatError(f"expected [{name}] to have {', '.join(sorted(allowed))}, got {', '.join(own)}")
    for key, value in own.items():
        if type(value) is not str or not _TEXT.match(value):
            raise FormatError(f"expected {name}.{key} to be printable ASCII without quotes or backslashes")
    return KeySource(provider=provider, **own)


def decode_vault(document: dict[str, Any]) -> VaultConfig:
    """The tables of a parsed ``node.toml``. Raises FormatError that names the wrong entry."""
    vault = document.get("vault", {})
    if not isinstance(vault, dict):
        raise FormatError("expected [vault] to be a table")
    years = vault.get("years", {})
    if not isinstance(years, dict):
        raise FormatError("expected [vault.years] to be a table")
    tables = {"vault": vault, "vault.years": years}
    for name, table in tables.items():
        unknown = [key for key, value in table.items() if isinstance(value, dict) and key != "next"]
        if set(unknown) - ({"years"} if name == "vault" else set()):
            raise FormatError(f"expected no tables in [{name}] but next, got {', '.join(unknown)}")
    return VaultConfig(
        rows=_source(vault, "vault") if "provider" in vault else _no_source(vault, "vault"),
        rows_next=_source(vault["next"], "vault.next") if "next" in vault else None,
        years=_source(years, "vault.years") if "provider" in years else None,
        years_next=_source(years["next"], "vault.years.next") if "next" in years else None,
    )


def _no_source(table: dict[str, Any], name: str) -> KeySource:
    """A table that only holds other tables: the default key."""
    if any(not isinstance(value, dict) for value in table.values()):
        raise FormatError(f"expected {name}.provider to be one of {', '.join(PROVIDERS)}, got None")
    return KeySource()


def encode_vault(vault: VaultConfig) -> str:
    """The tables; nothing for the default."""
    if vault == VaultConfig():
        return ""
    tables = {
        "vault": vault.rows,
        "vault.next": vault.rows_next,
        "vault.years": vault.years,
        "vault.years.next": vault.years_next,
    }
    lines: list[str] = []
    for name, source in tables.items():
        if source is not None:
            lines += ["", f"[{name}]", f'provider = "{source.provider}"']
            values = {key: getattr(source, key) for key in sorted(_FIELDS[source.provider])}
            lines += [f'{key} = "{value}"' for key, value in values.items() if value]
    return "\n".join(lines) + "\n"


def replace_vault(text: str, vault: VaultConfig) -> str:
    """A ``node.toml`` with other tables ``[vault…]``; every other line, comments too, as it was."""
    kept: list[str] = []
    dropping = False
    for line in text.splitlines():
        if _TABLE.match(line):
            dropping = _VAULT_TABLE.match(line) is not None
        if not dropping:
            kept.append(line)
    while kept and not kept[-1].strip():
        kept.pop()
    return "\n".join(kept) + "\n" + encode_vault(vault)
