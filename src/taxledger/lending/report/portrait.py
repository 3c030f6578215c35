"""The portrait of an enterprise: verified evidence and the decision upon it, as sections (``blocks.py``).

Invariants:

* A pure function: the same evidence, decision and language give the same portrait. No clock: every instant in it is
  the decision's.
* It says nothing that is not in the facts, the decision, or the notes on the files that they come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from taxledger.ledger.kinds import KINDS, kind_name
from taxledger.lending.decision import Decision, RuleResult, encode_decision
from taxledger.lending.evidence import VerifiedEvidence
from taxledger.lending.facts import Coverage, Facts
from taxledger.lending.features import FEATURES
from taxledger.lending.report.blocks import Block, Cards, Cell, Column, Note, Pairs, Portrait, Section, Table
from taxledger.lending.report.context import Context
from taxledger.lending.report.figures import money, share, show_value
from taxledger.lending.report.invoices import invoice_sections
from taxledger.lending.report.months import word
from taxledger.lending.report.otherkinds import other_sections
from taxledger.lending.report.plain import plain
from taxledger.lending.report.plots import gauge
from taxledger.lending.report.texts import Language, kind_title

__all__ = ["EvidenceNote", "make_portrait", "notes_of"]

_TONES = {"approve": "good", "refuse": "bad", "refer": "doubt", "incomplete": "doubt"}
_VERDICT_TONES = {"pass": "good", "refuse": "bad", "refer": "doubt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceNote:
    """What is shown of an evidence file.

    Attributes:
        digest: SHA-256.
        issuer, kinds: who answered about what.
        consent: id, 16 bytes; ``sequence`` of at most ``max_uses`` uses.
        origin, height: the ledger and its block.
        age_ms: of the answer when it was verified.
    """

    digest: bytes
    issuer: int
    kinds: tuple[int, ...]
    consent: bytes
    sequence: int
    max_uses: int
    origin: str
    height: int
    age_ms: int


def notes_of(verified: VerifiedEvidence) -> tuple[EvidenceNote, ...]:
    """A note on each file of an evidence set; a proof of pledges, the digest behind them, has none."""
    return tuple(
        EvidenceNote(
            digest=digest,
            issuer=each.answer.query.issuer,
            kinds=tuple(each.answer.query.kinds),
            consent=each.consent,
            sequence=each.sequence,
            max_uses=each.consent_value.max_uses,
            origin=each.answer.checkpoint.checkpoint.origin,
            height=each.answer.height,
            age_ms=each.answer.age_ms,
        )
        for digest, each in zip(verified.digests, verified.disclosed, strict=False)
    )


def make_portrait(
    facts: Facts,
    notes: Sequence[EvidenceNote],
    decision: Decision,
    *,
    language: Language,
    product_title: str | None = None,
) -> Portrait:
    """The portrait.

    Args:
        facts, notes: of the evidence that verified; none of either where nothing did.
        decision: upon it.
        language: of the report.
        product_title: of the product file in that language; its id without.
    """
    context = Context(
        facts=facts,
        as_of=date.fromisoformat(decision.as_of),
        currency=decision.currency,
        language=language,
        security=tuple(bytes.fromhex(each) for each in decision.security),
    )
    say = context.say
    instant = datetime.fromtimestamp(decision.decided_ms // 1000, UTC)
    digest = hashlib.sha256(encode_decision(decision)).hexdigest()
    shown = context.shown
    sections = [
        Section(title=say("reasons"), blocks=_reasons(context, decision)) if decision.reasons else None,
        Section(title=say("rules"), blocks=_rules(context, decision)) if decision.rules else None,
        *invoice_sections(context),
        *other_sections(context),
        Section(title=say("features"), blocks=_features(context, decision)) if decision.features else None,
        Section(title=say("coverage"), blocks=_coverage(context)) if facts.coverage else None,
        Section(title=say("evidence"), blocks=_evidence(context, notes, decision, digest)),
    ]
    return Portrait(
        language=language,
        title=say("title"),
        name=_name(facts) or shown(decision.subject),
        subject=shown(decision.subject),
        outcome=say(decision.outcome),
        tone=_TONES[decision.outcome],
        lines=(
            say(
                "product_line",
                product=shown(product_title or decision.product),
                version=decision.product_version,
            ),
            say("as_of_line", as_of=decision.as_of, instant=f"{instant:%Y-%m-%d %H:%M:%S}"),
            say("application_line", application=shown(decision.application)),
        ),
        sections=(
            Section(title="", blocks=(_cards(context, decision),)),
            *(each for each in sections if each is not None),
        ),
        footer=say("footer", digest=digest),
        digest=digest,
    )


def _name(facts: Facts) -> str:
    found = facts.counted(KINDS["business_registration"])
    newest = max(found, key=lambda each: (word(each, "registered"), each.version, each.key), default=None)
    return "" if newest is None else plain(word(newest, "name"), 60)


def _cards(context: Context, decision: Decision) -> Cards:
    say = context.say
    offered = decision.outcome in ("approve", "refer") and decision.limit > 0
    none = say("no_offer")
    limit = money(decision.limit, decision.currency)
    cards = [
        (say("limit"), say("amount", amount=limit, currency=decision.currency) if offered else none, "ink"),
        (say("rate"), share(decision.rate_ppm) if offered and decision.rate_ppm is not None else none, "ink"),
        (say("term"), say("unit_months", n=decision.term_months) if offered else none, "ink"),
        (say("revolving"), say("yes" if decision.revolving else "no"), "ink"),
    ]
    if decision.grade is not None:
        score = "" if decision.score is None else f" ({decision.score})"
        cards.append((say("grade"), f"{plain(decision.grade, 12)}{score}", "ink"))
    return Cards(cards=tuple(cards))


def _reasons(context: Context, decision: Decision) -> tuple[Block, ...]:
    rows = tuple(
        (
            plain(each.text if context.language == "en" else each.text_zh, 400),
            plain(each.code, 60),
        )
        for each in decision.reasons
    )
    headings = (
        Column(title=context.say("col_reason"), share=4),
        Column(title=context.say("col_code"), share=2),
    )
    return (Table(columns=headings, rows=rows, tones=(_TONES[decision.outcome],) * len(rows)),)


def _rules(context: Context, decision: Decision) -> tuple[Block, ...]:
    say = context.say
    headings = (
        Column(title=say("col_verdict"), share=18),
        Column(title=say("col_rule"), share=92),
        Column(title=say("col_value"), share=30, numeric=True),
        Column(title=say("col_needed"), share=34, numeric=True),
        Column(title=say("col_bar"), share=32),
    )
    rows = tuple(_rule(context, each) for each in decision.rules)
    tones = tuple(_VERDICT_TONES[each.verdict] for each in decision.rules)
    return (Table(columns=headings, rows=rows, tones=tones), Note(text=say("bars_note")))


def _rule(context: Context, rule: RuleResult) -> tuple[Cell, ...]:
    def show(value: int | None) -> str:
        return show_value(value, rule.unit, context.currency, context.language)

    needed = context.say(rule.operator, value=", ".join(show(each) for each in rule.thresholds))
    title = plain(rule.title if context.language == "en" else rule.title_zh)
    bar: Cell = ""
    if rule.value is not None and rule.unit not in ("flag", "grade"):
        bar = gauge(
            rule.value,
            rule.thresholds,
            _VERDICT_TONES[rule.verdict],
            summary=f"{show(rule.value)}, {needed}",
        )
    return context.say(f"verdict_{rule.verdict}"), title, show(rule.value), needed, bar


def _features(context: Context, decision: Decision) -> tuple[Block, ...]:
    rows = []
    for each in decision.features:
        known = FEATURES.get(each.id)
        title = each.id if known is None else known.title if context.language == "en" else known.title_zh
        value = show_value(each.value, each.unit, context.currency, context.language)
        rows.append((plain(title), f"{plain(each.id)} v{each.version}", value))
    headings = (
        Column(title=context.say("col_feature"), share=7),
        Column(title=context.say("col_id"), share=5),
        Column(title=context.say("col_value"), share=3, numeric=True),
    )
    return (Table(columns=headings, rows=tuple(rows)),)


# --- on what it stands ----------------------------------------------------------------------


def _coverage(context: Context) -> tuple[Block, ...]:
    say = context.say
    headings = (
        Column(title=say("col_kind"), share=46),
        Column(title=say("col_issuer"), share=18, numeric=True),
        Column(title=say("col_asked"), share=38),
        Column(title=say("col_through"), share=50),
        Column(title=say("col_records"), share=20, numeric=True),
        Column(title=say("col_counted"), share=20, numeric=True),
        Column(title=say("col_erased"), share=18, numeric=True),
    )
    rows, tones = [], []
    for kind, each in context.facts.coverage.items():
        shown, tone = _through(context, each)
        tones.append(tone)
        rows.append(
            (
                kind_title(kind_name(kind), context.language),
                str(each.issuer),
                f"{each.from_period} – {each.to_period}",
                shown,
                f"{len(context.facts.of(kind)):,}",
                f"{len(context.facts.counted(kind)):,}",
                f"{each.erased:,}",
            )
        )
    return (Table(columns=headings, rows=tuple(rows), tones=tuple(tones)),)


def _through(context: Context, coverage: Coverage) -> tuple[str, str]:
    say = context.say
    end = min(f"{coverage.to_period}-31", context.as_of.isoformat())
    if coverage.through is None:
        shown, tone = say("never"), "bad"
    elif not coverage.begun:
        shown, tone = f"{say('partly', date=coverage.through)}; {say('not_begun')}", "doubt"
    elif coverage.through >= end:
        shown, tone = say("complete", date=coverage.through), "good"
    else:
        shown, tone = say("partly", date=coverage.through), "doubt"
    closed = ", ".join(coverage.closed)
    return (f"{shown}; {say('closed_fields', names=plain(closed))}" if closed else shown), tone


def _evidence(
    context: Context, notes: Sequence[EvidenceNote], decision: Decision, digest: str
) -> tuple[Block, ...]:
    say = context.say
    blocks: list[Block] = []
    if not notes:
        blocks.append(Note(text=say("no_evidence"), tone="bad"))
    for each in notes:
        kinds = ", ".join(kind_title(kind_name(kind), context.language) for kind in each.kinds)
        used = say("ev_use", n=each.sequence, all=each.max_uses)
        age = say("ev_seconds", n=f"{max(each.age_ms, 0) // 1000:,}", max=f"{decision.age_ms_max // 1000:,}")
        blocks.append(
            Pairs(
                rows=(
                    (say("ev_kinds"), kinds),
                    (say("col_issuer"), str(each.issuer)),
                    (say("ev_consent"), f"{each.consent.hex()} · {used}"),
                    (say("ev_point"), f"{plain(each.origin)} · {each.height:,}"),
                    (say("ev_age"), age),
                    (say("ev_file"), each.digest.hex()),
                ),
                fixed=True,
            )
        )
    rows = [(say("ev_decision"), digest), (say("ev_product"), plain(decision.product_digest))]
    shown = {each.digest.hex() for each in notes}
    rows += [(say("ev_other"), plain(each)) for each in decision.evidence if each not in shown]
    if decision.scorecard_digest is not None:
        rows.append((say("ev_scorecard"), plain(decision.scorecard_digest)))
    rows += [(say("ev_security"), plain(each)) for each in decision.security[:20]]
    blocks.append(Pairs(rows=tuple(rows), fixed=True))
    return tuple(blocks)
