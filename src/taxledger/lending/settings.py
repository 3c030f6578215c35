"""The lender's own folder: ``lending.toml`` and what it names. Trust comes from here, never from a node's answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import FormatError, InputError
from taxledger.ledger.kinds import parse_kind
from taxledger.lending.tomlfile import Shape, read_toml

__all__ = ["LendingSettings", "Webhook", "decode_settings", "load_settings", "read_contract_key"]

_HEX_KEY = re.compile(r"[0-9a-f]{64}")


class _Bank(Shape):
    name: Annotated[str, Field(min_length=1, max_length=140)]
    bic: Annotated[str, Field(pattern=r"^[A-Z0-9]{8}([A-Z0-9]{3})?$")]
    account: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,34}$")]
    time_zone: str = "Asia/Shanghai"


class _Database(Shape):
    url: str = "sqlite:///loans.sqlite"


class _Payments(Shape):
    outbox: str = "payments"


class _Evidence(Shape):
    age_seconds_max: Annotated[int, Field(ge=1, le=86_400)] = 600
    wait_seconds_max: Annotated[int, Field(ge=1, le=600)] = 30


class _Service(Shape):
    listen: str = "127.0.0.1:0"
    certificate: str | None = None
    private_key: str | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = 4


class _Webhook(Shape):
    url: Annotated[str, Field(pattern=r"^https?://")]
    secret: Annotated[str, Field(pattern=r"^whsec_")]


class _SettingsFile(Shape):
    bank: _Bank
    issuers: dict[str, Annotated[int, Field(ge=1, le=65_535)]]
    products: str | None = None
    database: _Database = _Database()
    payments: _Payments = _Payments()
    evidence: _Evidence = _Evidence()
    service: _Service = _Service()
    webhooks: Annotated[list[_Webhook], Field(default_factory=list)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where alerts go, and the secret (``whsec_…``) that signs them."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LendingSettings:
    """A lender's settings.

    Attributes:
        folder: where the file lies; relative paths of it count from here.
        bank_name, bank_bic, bank_account: whose account pays out.
        time_zone: of the banking day, by its IANA name.
        issuers: kind -> number of the member whose word on it counts.
        products: folder of product files, None for those that are shipped.
        database_url: of SQLAlchemy.
        outbox: folder of payment files.
        age_ms_max: how old evidence may be; ``wait_s_max`` how long a custodian is waited for.
        listen: ``host:port`` of the service; port 0 takes a free one.
        certificate, private_key: PEM files of the service; None: it listens on loopback only.
        workers: loans that the service goes on with at once.
        webhooks: where alerts go.
    """

    folder: Path
    bank_name: str
    bank_bic: str
    bank_account: str
    time_zone: str
    issuers: Mapping[int, int]
    products: Path | None
    database_url: str
    outbox: Path
    age_ms_max: int
    wait_s_max: int
    listen: str
    certificate: Path | None
    private_key: Path | None
    workers: int
    webhooks: tuple[Webhook, ...]

    @property
    def contract_key(self) -> Path:
        """File of the key that signs contracts, 32 bytes in hex, mode 0600."""
        return self.folder / "contract.key"


def load_settings(folder: Path) -> LendingSettings:
    """The settings of a folder. Raises FormatError: no ``lending.toml``, or a wrong one."""
    path = folder / "lending.toml"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(
            f"{path}: can't be read: {error.strerror or error}; `taxledger lend init` makes one"
        ) from error
    try:
        return decode_settings(data, folder)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def decode_settings(data: bytes, folder: Path) -> LendingSettings:
    """The settings of a file's bytes. Raises FormatError with the place."""
    file = read_toml(data, _SettingsFile)
    return LendingSettings(
        folder=folder,
        bank_name=file.bank.name,
        bank_bic=file.bank.bic,
        bank_account=file.bank.account,
        time_zone=_time_zone(file.bank.time_zone),
        issuers=dict(sorted((parse_kind(name), member) for name, member in file.issuers.items())),
        products=None if file.products is None else folder / file.products,
        database_url=_database_url(file.database.url, folder),
        outbox=folder / file.payments.outbox,
        age_ms_max=file.evidence.age_seconds_max * 1_000,
        wait_s_max=file.evidence.wait_seconds_max,
        listen=file.service.listen,
        certificate=_path(file.service.certificate, folder),
        private_key=_path(file.service.private_key, folder),
        workers=file.service.workers,
        webhooks=tuple(Webhook(url=each.url, secret=each.secret) for each in file.webhooks),
    )


def _database_url(url: str, folder: Path) -> str:
    """``sqlite:///name`` counts from the folder; everything else is as it stands."""
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith(f"{prefix}/"):
        return f"{prefix}{(folder / url[len(prefix) :]).absolute()}"
    return url


def _path(name: str | None, folder: Path) -> Path | None:
    return None if name is None else folder / name


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise FormatError(f"bank.time_zone: expected a name like Asia/Shanghai, got {name!r:.40}") from error
    return name


def read_contract_key(settings: LendingSettings) -> Signer:
    """The key that signs contracts. Raises InputError: not there, no key, or others can read it."""
    path = settings.contract_key
    try:
        if path.stat().st_mode & 0o077:
            raise InputError(f"{path}: expected mode 0600, others can read this secret (chmod 600 it)")
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    if not _HEX_KEY.fullmatch(text):
        raise InputError(f"{path}: expected a key of 64 hex digits")
    return Signer(bytes.fromhex(text))
