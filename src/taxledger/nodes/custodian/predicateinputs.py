"""The records that formulas read, out of the vault, as the certified state has them.

What there is, its version and status are the certified state's; the vault gives the fields. So a change that is
in the vault, but not yet certified, has no part in an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taxledger.ledger import canonical, statekeys
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.predicates import Formula, Inputs, input_query
from taxledger.ledger.query import Query, record_prefixes
from taxledger.ledger.records import RecordValue, Status, decode_record_value
from taxledger.ledger.schemas import Schema, Value
from taxledger.ledger.statemap import MapView
from taxledger.nodes.custodian.vault import Vault
from taxledger.nodes.replica import CertifiedState

__all__ = ["CertifiedFacts", "InputReader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedFacts:
    """The certified state that predicates are computed at.

    Attributes:
        view: the state map.
        size, root: of the log at its checkpoint.
        height: of the block right below that.
    """

    view: MapView
    size: int
    root: bytes
    height: int

    @classmethod
    def of(cls, state: CertifiedState) -> CertifiedFacts:
        """Those of a node's certified state."""
        point = state.checkpoint
        return cls(view=state.view, size=point.size, root=point.root, height=state.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """See ``ledger.predicates.InputRecord``."""

    kind: int
    year: int
    month: int
    status: Status
    fields: Mapping[str, Value] | None
    closed: tuple[str, ...] = ()
    """The vault shows all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A record of the range as the state map has it."""

    key: bytes
    year: int
    value: RecordValue


class InputReader:
    """Inputs about one subject at one certified state.

    Args:
        vault: of the issuer.
        facts: the state.
        subject: the enterprise.
        as_of: ``YYYY-MM-DD``.
        schemas: those that records may name.
    """

    def __init__(
        self,
        vault: Vault,
        facts: CertifiedFacts,
        *,
        subject: str,
        as_of: str,
        schemas: Sequence[Schema] = BUILTIN,
    ) -> None:
        self.facts = facts
        self.as_of = as_of
        self._vault = vault
        self._subject = subject
        self._schemas = {(each.kind, each.number): each for each in schemas}
        self._listed: dict[Query, list[_Listed]] = {}
        self._read: dict[Query, Inputs] = {}

    def query(self, formula: Formula) -> Query:
        """The question whose answer are the formula's inputs. Raises FormatError: no as-of date."""
        return input_query(formula, self._subject, self._vault.member, self.as_of)

    def changed_height(self, formula: Formula) -> int:
        """Height of the newest change among the formula's inputs; 0 where there are none."""
        return max((each.value.height for each in self._list(self.query(formula))), default=0)

    def places(self, formula: Formula) -> dict[bytes, frozenset[int] | None]:
        """Tag -> month bytes (None: the whole year) where a record changes the formula's inputs."""
        query = self.query(formula)
        found: dict[bytes, frozenset[int] | None] = {}
        for (_kind, year), tag in self._tags(query).items():
            months = query.month_bytes(year)
            found[tag] = None if months is None else frozenset(months)
        return found

    def inputs(self, formula: Formula) -> Inputs:
        """What the formula reads.

        Raises:
            UnavailableError: the vault lacks a record or key that the ledger has.
        """
        query = self.query(formula)
        known = self._read.get(query)
        if known is None:
            known = self._read[query] = self._inputs(query)
        return known

    def _inputs(self, query: Query) -> Inputs:
        (kind,) = query.kinds
        listed = self._list(query)
        opened = self._vault.open_many([(each.key, each.value.version) for each in listed])
        records = []
        for each, found in zip(listed, opened, strict=True):
            fields = None
            if each.value.status != Status.ERASED:
                schema = self._schemas.get((kind, each.value.schema))
                if found is None or schema is None:
                    raise UnavailableError("the vault lacks a record that the ledger has, or its schema")
                fields = schema.named(found[1])
            record = _Record(
                kind=kind, year=each.year, month=each.key[20], status=each.value.status, fields=fields
            )
            records.append(record)
        through = self.facts.view.get(statekeys.attested_through_key(self._vault.member, kind))
        return Inputs(
            records=records,
            through=None if through is None else canonical.decode(through)[0],
            keyed_years=frozenset(year for _kind, year in self._tags(query)),
        )

    def _list(self, query: Query) -> list[_Listed]:
        known = self._listed.get(query)
        if known is None:
            known = self._listed[query] = [
                _Listed(key=key, year=year, value=decode_record_value(value))
                for prefix, (_kind, year) in record_prefixes(query, self._tags(query)).items()
                for key, value in self.facts.view.scan(prefix)
            ]
        return known

    def _tags(self, query: Query) -> dict[tuple[int, int], bytes]:
        """The subject's tags of the years that have a key on the ledger."""
        (kind,) = query.kinds
        tags = {}
        for year in query.years:
            if self.facts.view.get(statekeys.tag_key_key(self._vault.member, year)) is None:
                continue
            entry = self._vault.tag(self._subject, kind, year)
            if entry is None:
                raise UnavailableError("the vault lacks the keys of a year that the ledger has")
            tags[kind, year] = entry.tag
        return tags
