"""The file of permits that ``taxledger pledge permit`` writes: JSON, a row for each permit, for people and programs."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from pathlib import Path

from taxledger.ledger.errors import InputError
from taxledger.ledger.permit import Permit, decode_permit
from taxledger.nodes.cli.output import read_file, write_file

__all__ = ["encode_permits", "read_permits", "write_permits"]

_FILE_BYTES_MAX = 16 * 1024 * 1024


def encode_permits(permits: Sequence[bytes]) -> str:
    """The file's text; what stands beside ``permit`` is read from it, for people."""
    rows = []
    for raw in permits:
        permit = decode_permit(raw)
        rows.append(
            {
                "record": permit.record_key.hex(),
                "issuer": permit.issuer,
                "fingerprint": permit.fingerprint.hex(),
                "version": permit.version,
                "lender": permit.lender,
                "not_after_ms": permit.not_after,
                "permit": base64.b64encode(raw).decode(),
            }
        )
    return json.dumps({"permits": rows}, indent=2) + "\n"


def write_permits(path: Path, permits: Sequence[bytes]) -> None:
    """Raises UnavailableError where the file can't be written."""
    write_file(path, encode_permits(permits).encode(), private=True)


def read_permits(path: Path) -> dict[bytes, Permit]:
    """The permits of a file by their bytes, in its order; their signatures are not checked. Raises InputError."""
    data = read_file(path, bytes_max=_FILE_BYTES_MAX)
    try:
        rows = json.loads(data)["permits"]
        raws = [base64.b64decode(row["permit"], validate=True) for row in rows]
        return {raw: decode_permit(raw) for raw in raws}
    except (ValueError, RecursionError, KeyError, TypeError, binascii.Error) as error:
        raise InputError(f"{path}: expected a file of taxledger pledge permit") from error
