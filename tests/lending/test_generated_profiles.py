"""Made-up enterprises against the reference products: a good one passes all, each other fails what it says."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from decisionkit import PRODUCTS, decided, fact, facts_of

from taxledger.ledger.records import Status
from taxledger.lending.decision import Decision
from taxledger.nodes.generating import PROFILES, GeneratedEnterprise, generate_enterprise

SEEDS = (1, 2026)


def decisions(made: GeneratedEnterprise, as_of: str = "") -> dict[str, Decision]:
    """What every product says on a day, by default the last that there are records of."""
    records = {
        kind: [fact(kind, status=Status(row.status), **row.fields) for row in made.records(kind)]
        for kind in made.rows
    }
    offered = {"procurement": records["procurement_award"], "engineering": records["engineering_contract"]}
    facts = facts_of(records)
    return {
        id: decided(
            id,
            facts,
            as_of=date.fromisoformat(as_of or made.through),
            security=tuple(each.key for each in offered.get(id, [])[:1]),
        )
        for id in PRODUCTS
    }


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("as_of", ["2025-12-20", "2025-12-31", "2026-01-05"])
def test_good_passes_every_product(seed: int, as_of: str) -> None:
    found = decisions(generate_enterprise(seed), as_of)
    assert {id: each.outcome for id, each in found.items()} == dict.fromkeys(PRODUCTS, "approve")
    assert all(each.limit > 10_000_00 for each in found.values())


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_breaks_what_it_says(name: str) -> None:
    for seed in SEEDS:
        print(f"seed {seed}")
        found = decisions(generate_enterprise(seed, name))
        broken = {
            id: {rule.id for rule in each.rules if rule.verdict != "pass"} for id, each in found.items()
        }
        wanted = {product: set(rules) for product, rules in PROFILES[name].breaks.items()}
        assert {id: rules for id, rules in broken.items() if rules} == wanted
        assert all(each.outcome != "incomplete" for each in found.values())


def test_every_rule_of_every_product_is_broken_by_some_profile() -> None:
    """But those about pledges, which no record can break."""
    rules = {(id, rule.id) for id, product in PRODUCTS.items() for rule in product.rules}
    broken = {
        (product, rule)
        for each in PROFILES.values()
        for product, names in each.breaks.items()
        for rule in names
    }
    assert rules - broken == {("procurement", "not_pledged"), ("engineering", "not_pledged")}
    assert broken <= rules


def test_the_document_lists_every_profile() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sources.md").read_text("utf-8")
    for each in PROFILES.values():
        rules = "; ".join(
            f"{product}: {', '.join(f'`{rule}`' for rule in names)}" for product, names in each.breaks.items()
        )
        assert f"| `{each.name}` | {each.title} | {rules or '–'} |" in text
