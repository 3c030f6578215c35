"""UK customs declarations, their amendments and cancellations, and what HMRC answers (WCO DMS XML), to declarations.

A declaration is known by its trader's reference (LRN): that is the record's ``number``, because it is the only one
that a declaration itself has. Amendments and cancellations name the MRN; they belong to the declaration whose LRN they
repeat, or whose MRN a notification of the same upload tells. All files of an upload are looked at together:

* a declaration is one record, ``declared`` on the day of its acceptance, or of issue; else of the acceptance that a
  notification states; else ``--dated``; else it is refused
* an amendment amends it, laid over the declaration with the others of the upload; a cancellation voids it
* of the notifications those change it that say something of it: clearance, rejection, tax, cancellation
* what has no declaration in the upload is refused, but with ``--subject`` changes the record attested before

So the order of files does not matter: declarations are read first, cancellations last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from taxledger.ledger.builtin import newest
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status, parse_subject
from taxledger.ledger.schemas import Schema, Value
from taxledger.nodes.sources.formats import Format, Look, SourceOptions
from taxledger.nodes.sources.hmrcmessages import (
    ACCEPTED,
    AMENDMENT,
    CANCELLATION,
    CANCELLED,
    CLEARED,
    DECLARATION,
    NOTIFICATION,
    REJECTED,
    TAX,
    Message,
    read_message,
    root_looks,
)
from taxledger.nodes.sources.rows import BadRow, CellError, Item, RowChange, SourceRow
from taxledger.nodes.sources.wcodeclaration import Declaration, merge, record_fields
from taxledger.nodes.sources.xmlreader import ElementError

__all__ = ["FORMAT", "HmrcCustomsSource"]

_PUBLISHER = "hmrc"


class _Chain:
    """A declaration of the upload and what its other files say of it.

    Attributes:
        first: the declaration; ambiguous where another subject's has the same reference.
        messages: all others, in order of files.
        amended, noted: what they make of it, once it was asked for.
    """

    def __init__(self, first: Message) -> None:
        self.first = first
        self.ambiguous = False
        self.messages: list[Message] = []
        self.amended: dict[str, Value] | None = None
        self.noted: dict[str, Value] | None = None

    def add(self, message: Message) -> None:
        self.messages.append(message)
        self.amended = self.noted = None


class HmrcCustomsSource:
    """The ``hmrc-customs`` source.

    Attributes:
        schema: ``customs_declaration``.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.schema: Schema = newest(KINDS["customs_declaration"])
        self._subject = options.subject
        self._dated = options.dated
        self._read: dict[Path, Message | FormatError | ElementError] = {}
        self._chains: dict[str, _Chain] = {}
        self._references: dict[str, str] = {}

    def prepare(self, paths: Sequence[Path]) -> Sequence[Path]:
        """Reads every file once and joins them by LRN and MRN; declarations are to be read first."""
        new = [path for path in paths if path not in self._read]
        for path in new:
            try:
                self._read[path] = read_message(path)
            except (FormatError, ElementError) as error:
                self._read[path] = error
        messages = [found for path in new if isinstance(found := self._read[path], Message)]
        for each in messages:
            if each.kind == DECLARATION:
                chain = self._chains.setdefault(each.reference, _Chain(each))
                chain.ambiguous |= _owner(chain.first) != _owner(each)
        others = [each for each in messages if each.kind in (NOTIFICATION, AMENDMENT, CANCELLATION)]
        for each in others:
            # A notification pairs the two for certain; an amendment only where its reference is a declaration's.
            if each.mrn and (each.kind == NOTIFICATION or each.reference in self._chains):
                self._references.setdefault(each.mrn, each.reference)
        for each in others:
            about = self._chain(each)
            if about is not None:
                about.add(each)
        return sorted(paths, key=self._rank)

    def _rank(self, path: Path) -> int:
        """Declarations first, and what voids them last: nothing amends a record that is voided."""
        found = self._read[path]
        if not isinstance(found, Message):
            return 1
        return 0 if found.kind == DECLARATION else 2 if _cancels(found) else 1

    def _chain(self, message: Message) -> _Chain | None:
        return self._chains.get(self._reference(message))

    def _reference(self, message: Message) -> str:
        """The LRN of the declaration that a message is about, as far as the upload tells."""
        if message.reference in self._chains or not message.mrn:
            return message.reference
        return self._references.get(message.mrn, message.reference)

    def rows(self, path: Path) -> Iterator[Item]:
        """The one message of the file. Raises FormatError when it is no such file."""
        self.prepare([path])
        found = self._read[path]
        if isinstance(found, FormatError):
            raise found
        if isinstance(found, ElementError):
            yield found.bad_row()
            return
        try:
            yield self._declared(found) if found.kind == DECLARATION else self._changed(found)
        except CellError as error:
            yield error.row(found.line, found.name, found.reference or found.mrn)

    # --- declarations -----------------------------------------------------------------------

    def _declared(self, message: Message) -> SourceRow:
        subject = _owner(message)
        if subject is None:
            raise CellError("subject_missing", "an importer or exporter", "进口人或出口人")
        self._check_subject(subject)
        chain = self._chains[message.reference]
        accepted = [
            each.date for each in chain.messages if each.kind == NOTIFICATION and each.code == ACCEPTED
        ]
        declared = message.date or next(filter(None, accepted), None) or self._dated
        if declared is None:
            raise CellError(
                "date_missing",
                "a day of acceptance or issue, a notification of acceptance in the same upload, or --dated with the "
                "day of receipt",
                "受理日或签发日、同一次上传中的受理通知，或用 --dated 指明收到日",
            )
        values = self.schema.row(
            {
                "direction": "import" if message.imported else "export",
                "number": message.reference,
                "declared": declared,
                "state": "declared",
                **_fields(message, message.stated, 0),
            }
        )
        return SourceRow(message.line, subject, int(Status.VALID), values)

    def _check_subject(self, subject: str) -> None:
        if self._subject is not None and subject != self._subject:
            raise CellError(
                "subject_differs", f"the subject asked, {self._subject}", f"指定的主体 {self._subject}"
            )

    # --- what changes them ------------------------------------------------------------------

    def _changed(self, message: Message) -> RowChange | BadRow:
        if message.refusal is not None:
            code, expected, expected_zh = message.refusal
            return CellError(code, expected, expected_zh).row(message.line, message.name, message.reference)
        reference, chain = self._reference(message), self._chain(message)
        if chain is not None and chain.ambiguous:
            raise CellError(
                "declaration_ambiguous", "one declaration of this reference", "该编号仅有一份申报"
            )
        subject = _owner(chain.first) if chain is not None else self._subject or message.submitter
        if subject is None or not reference:
            raise CellError(
                "declaration_missing",
                "its declaration in the same upload (by LRN, or by the MRN that a notification tells), or --subject",
                "同一次上传中含有其申报（按 LRN，或通知所示 MRN），或用 --subject 指明主体",
            )
        self._check_subject(subject)
        change = partial(RowChange, line=message.line, subject=subject, identity={"number": reference})
        if _cancels(message):
            return change(status=int(Status.VOIDED))
        if chain is None:
            return change(fields=_alone(message) if message.kind == AMENDMENT else _noted([message], None))
        if message.kind == AMENDMENT:
            chain.amended = _amended(chain) if chain.amended is None else chain.amended
            return change(fields=chain.amended)
        chain.noted = _noted(chain.messages, chain) if chain.noted is None else chain.noted
        return change(fields=chain.noted)


def _cancels(message: Message) -> bool:
    return message.kind == CANCELLATION or message.code == CANCELLED


def _owner(message: Message) -> str | None:
    """The trader whose declaration it is; who declared it for him where no trader is named."""
    stated = message.stated
    name = stated.importer if message.imported else stated.exporter
    return _subject_of(name or stated.declarant)


def _subject_of(name: str | None) -> str | None:
    if name is None:
        return None
    for subject in (f"eori:{name}", f"name:{_PUBLISHER}:{name}"):
        try:
            return parse_subject(subject)
        except FormatError:
            continue
    return None


def _fields(first: Message, stated: Declaration, amended: int) -> dict[str, Value]:
    return record_fields(stated, imported=first.imported, type_code=first.type_code, amended=amended)


def _amended(chain: _Chain) -> dict[str, Value]:
    """What all amendments of the upload together make other than it was declared: so none undoes another."""
    stated, amendments = chain.first.stated, [each for each in chain.messages if each.kind == AMENDMENT]
    for each in amendments:
        stated = merge(stated, each.stated)
    before = _fields(chain.first, chain.first.stated, 0)
    after = _fields(chain.first, stated, len(amendments))
    return {name: value for name, value in after.items() if value != before[name]}


def _alone(message: Message) -> dict[str, Value]:
    """What an amendment says without its declaration: of goods items nothing, for they may not be all."""
    if message.stated.items:
        raise CellError(
            "declaration_missing", "its declaration in the same upload: it states some goods items",
            "同一次上传中含有其申报：更正仅列出部分货物项",
        )  # fmt: skip
    invoiced = message.stated.invoiced
    return {} if invoiced is None else {"currency": invoiced[0], "value": invoiced[1]}


def _noted(messages: Sequence[Message], chain: _Chain | None) -> dict[str, Value]:
    """What all notifications of the upload together say of a declaration, the latest last."""
    noted: dict[str, Value] = {}
    for each in sorted(
        (one for one in messages if one.kind == NOTIFICATION), key=lambda one: one.issued or ""
    ):
        if each.code == CLEARED:
            noted |= {"state": "cleared", "cleared": each.issued}
        elif each.code == REJECTED:
            noted |= {"state": "rejected", "cleared": None}
        elif each.code == TAX and each.currency is not None:
            noted |= _taxed(each, chain)
    return noted


def _taxed(message: Message, chain: _Chain | None) -> dict[str, Value]:
    """Duty and tax, where they are of the declaration's currency: a record has but one."""
    if chain is None:
        raise CellError(
            "declaration_missing", "its declaration in the same upload: tax is of its currency",
            "同一次上传中含有其申报：税额以其币种计",
        )  # fmt: skip
    stated = _fields(chain.first, chain.first.stated, 0)["currency"]
    if stated not in (None, message.currency):
        return {}
    return {"currency": message.currency, "duty": message.duty, "tax": message.tax}


def _looks(look: Look) -> bool:
    return look.root is not None and root_looks(look.root)


FORMAT = Format(
    name="hmrc-customs",
    title="UK customs declarations, amendments, cancellations and notifications (WCO DMS XML)",
    schema=newest(KINDS["customs_declaration"]),
    looks=_looks,
    open=HmrcCustomsSource,
)
