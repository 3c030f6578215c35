"""Decimal places of currencies, for sources; the table is the core's."""

from __future__ import annotations

from taxledger.ledger.currencies import MINOR_DIGITS

__all__ = ["MINOR_DIGITS"]
