"""Payment files in a folder, from where the core banking system takes them: the reference payment port.

    <folder>/<id>.xml         waits to be taken
    <folder>/taken/<id>.xml   where the core banking system moves it; it never deletes one, and takes an id once

A payment is written in this order:

    1. a temporary file beside the target, written and synced
    2. renamed to ``<id>.xml``: it is there whole, or not there
    3. the folder synced: it is there for good

and only then acknowledged. A crash before 2 leaves a temporary file, which nobody reads and the retry removes.
After 2, the retry finds the file under its name (in the folder, or taken) with the same bytes, syncs again,
because the crash may have come before 3, and acknowledges. Other bytes under the name are never overwritten:
that is a changed payment, or the same one written under other settings (another payer), and may have been paid. So
it is no refusal, after which a loan would end unpaid: the loan stays where it is, and a person has to look.

The folder is looked at before ``taken``: a file that is moved in between is seen in one of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taxledger.ledger.errors import FormatError, UnavailableError
from taxledger.lending.payments.pain001 import encode_payment
from taxledger.lending.payments.port import Account, Payment, PaymentInstruction

__all__ = ["PaymentOutbox"]

_TEMPORARY = ".part"


class PaymentOutbox:
    """Writes payment files. Workers that share the folder may not pay the same id at the same time: a loan is held."""

    def __init__(self, folder: Path, payer: Account) -> None:
        """An outbox; makes the folder.

        Args:
            folder: where the files go.
            payer: the lender's account that pays.
        """
        self._folder = folder
        self._payer = payer
        with _unavailable():
            for each in (
                folder,
                folder / "taken",
            ):  # names, accounts and amounts: for the owner and its group
                each.mkdir(mode=0o750, parents=True, exist_ok=True)
            _sync_folder(folder)
            _sync_folder(folder.parent)

    def pay(self, instruction: PaymentInstruction) -> Payment:
        """Write the file, once; see ``PaymentPort``.

        Raises:
            UnavailableError: the folder can't be written; ``payment_file_differs``: another payment is there under
                this id, and stays.
            FormatError: not a payment that a file can say; none is there.
        """
        name = f"{instruction.id}.xml"
        places = (self._folder, self._folder / "taken")
        try:
            data = encode_payment(instruction, self._payer)
        except FormatError as error:
            with _unavailable():
                there = [place / name for place in places if (place / name).exists()]
            if there:
                raise _differs(there[0]) from error
            raise
        with _unavailable():
            for place in places:
                if (place / name).exists():
                    self._compare(place / name, data)
                    break
            else:
                self._write(self._folder / name, data)
            for left in self._folder.glob(
                f"{instruction.id}.*{_TEMPORARY}"
            ):  # of those who died before step 2
                left.unlink(missing_ok=True)
        return Payment(reference=instruction.id, value_date=instruction.value_date)

    @staticmethod
    def _compare(path: Path, data: bytes) -> None:
        try:
            found = path.read_bytes()
        except FileNotFoundError:  # taken just now
            path = path.parent / "taken" / path.name
            found = path.read_bytes()
        if found != data:
            raise _differs(path)
        _sync_file(path)
        _sync_folder(path.parent)

    def _write(self, path: Path, data: bytes) -> None:
        # A name of its own: two writers of one file would let one publish what the other has half written.
        handle, temporary = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=_TEMPORARY, dir=self._folder)
        try:
            os.fchmod(handle, 0o640)
            with os.fdopen(handle, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(temporary, path)
        _sync_folder(self._folder)


def _differs(path: Path) -> UnavailableError:
    return UnavailableError(
        f"payment_file_differs: {path}: another payment has this id; a person has to look"
    )


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"the outbox of payments: {error}") from error


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_sync_folder = _sync_file
