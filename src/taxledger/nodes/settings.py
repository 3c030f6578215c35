"""Settings of a node that are no secrets and no protocol: environment variables ``TAXLEDGER_<NAME>``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from taxledger.ledger import limits
from taxledger.nodes.identity.pki import CERTIFICATE_HOURS

__all__ = ["NodeSettings"]


class NodeSettings(BaseSettings):
    """Read once at start. A value out of range stops the node with a message that names it."""

    model_config = SettingsConfigDict(env_prefix="TAXLEDGER_", extra="ignore", frozen=True)

    heartbeat_ms: int = Field(limits.heartbeat_ms_default, ge=200, le=600_000)
    """An idle validator co-signs its newest checkpoint anew this often."""
    page_cache_bytes: int = Field(limits.page_cache_bytes_default, ge=1 << 20, le=1 << 34)
    """Pages of the state map kept in memory."""
    snapshot_blocks: int = Field(1_000, ge=1, le=1_000_000)
    """A snapshot for members that join is taken every so many blocks."""
    tls_certificate_hours: int = Field(CERTIFICATE_HOURS, ge=1, le=87_600)
    """Life of the node's own certificate for its peers; renewed when half of it is left."""
    disclosure_idle_ms: int = Field(60_000, ge=200, le=3_600_000)
    """A disclosure that its recipient does not go on with is closed after this."""
    sweep_ms: int = Field(60_000, ge=100, le=3_600_000)
    """Time between two looks for stored disclosures whose retention has ended."""
    api_certificate: Path | None = None
    """PEM certificate for the query API. With it (and its key) the API may listen beyond loopback."""
    api_private_key: Path | None = None
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
