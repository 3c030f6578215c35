"""What a made-up enterprise is like: a good one, and others that differ from it in one thing.

``breaks`` says which rules of the reference products fail on the last day of the last month, by product; a test
holds it against the products. Months are counted back from the last one, which is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How an enterprise differs from a good one.

    Attributes:
        name: as ``--profile`` takes it.
        title: what is wrong with it.
        breaks: ids of rules by product.
        history_months: how many months there are records of; None: all.
        sales_percent: of the good one's sales.
        last_year_percent: sales of the last 12 months against those before; ``last_half_percent`` of the last six.
        silent: months without sales.
        top_customer_percent: share of the invoices that go to one customer.
        red_percent: of the invoices that are reversed; ``void_percent`` of those that are voided.
        purchase_percent: purchases against sales.
        late: months filed late; ``unpaid``: filed and not paid; ``unfiled``: not filed at all.
        filings_end: month of the last filing.
        grade: of the newest rated year.
        open_arrears: whether there are some.
        loans: open elsewhere; ``borrowed``: whether anybody ever lent.
        usage_last_year_percent: as sales; ``usage_missing``: months without a record; ``usage_arrears``.
        cancelled_percent: of the declarations; ``export_months``: months with exports, None: all;
            ``export_history``: how many months ago the first was.
        certificates_expired: all of them, patents too.
        award_state: of the one to offer as security; ``award_public``: its buyer; ``award_account``: whether it
            names the account that is paid to.
        contract_state, contract_overdue, contract_account: the same of the engineering contract.
    """

    name: str
    title: str
    breaks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    history_months: int | None = None
    sales_percent: int = 100
    last_year_percent: int = 106
    last_half_percent: int = 100
    silent: frozenset[int] = frozenset()
    top_customer_percent: int = 10
    red_percent: int = 1
    void_percent: int = 4
    purchase_percent: int = 60
    late: frozenset[int] = frozenset()
    unpaid: frozenset[int] = frozenset()
    unfiled: frozenset[int] = frozenset()
    filings_end: int = 0
    grade: str = "A"
    open_arrears: bool = False
    loans: int = 0
    borrowed: bool = False
    usage_last_year_percent: int = 104
    usage_missing: frozenset[int] = frozenset()
    usage_arrears: bool = False
    cancelled_percent: int = 4
    export_months: frozenset[int] | None = None
    export_history: int | None = None
    certificates_expired: bool = False
    award_state: str = "active"
    award_public: bool = True
    award_account: bool = True
    contract_state: str = "active"
    contract_overdue: bool = False
    contract_account: bool = True


def _months(*months: int) -> frozenset[int]:
    return frozenset(months)


_LIST = (
    Profile(name="good", title="passes every rule of every product"),
    # --- sales ------------------------------------------------------------------------------
    Profile(
        name="edge_gap",
        title="stopped selling five months ago",
        silent=frozenset(range(5)),
        breaks={
            "invoice": ("longest_gap", "recent_sales", "fall_12m", "fall_6m"),
            "tax": ("nil_filings",),
        },
    ),
    Profile(
        name="gap",
        title="sold nothing for four months, more than a year ago",
        silent=frozenset(range(14, 18)),
        breaks={"invoice": ("longest_gap",)},
    ),
    Profile(
        name="few_months",
        title="sales in too few months, never long without",
        silent=_months(7, 9, 11, 13, 15, 17, 19, 21, 23),
        breaks={"invoice": ("months_with_sales",)},
    ),
    Profile(
        name="quiet_months",
        title="nothing sold in the last two months",
        silent=_months(0, 1),
        breaks={"invoice": ("recent_sales",)},
    ),
    Profile(
        name="nil_months",
        title="two nil months of the last six",
        silent=_months(2, 4),
        breaks={"tax": ("nil_filings",)},
    ),
    Profile(
        name="dormant",
        title="sold in four of the last 12 months",
        silent=frozenset(range(8)),
        breaks={
            "invoice": ("longest_gap", "months_with_sales", "recent_sales", "fall_12m", "fall_6m"),
            "tax": ("nil_filings",),
            "engineering": ("sales",),
        },
    ),
    Profile(
        name="sales_fall",
        title="sales fell by more than 30 % in a year",
        last_year_percent=60,
        breaks={"invoice": ("fall_12m",)},
    ),
    Profile(
        name="recent_fall",
        title="sales of six months fell by half",
        last_year_percent=112,
        last_half_percent=48,
        breaks={"invoice": ("fall_6m",)},
    ),
    Profile(
        name="concentrated",
        title="nearly all is sold to one customer",
        top_customer_percent=96,
        breaks={"invoice": ("concentration",)},
    ),
    Profile(
        name="red_letters",
        title="an eighth of the invoices is reversed",
        red_percent=12,
        breaks={"invoice": ("red_letters",)},
    ),
    Profile(name="voids", title="a quarter of the invoices is voided: no product asks", void_percent=25),
    Profile(
        name="young",
        title="ten months old",
        history_months=10,
        breaks={
            "tax": ("first_filing",),
            "invoice": ("first_invoice", "longest_gap", "months_with_sales", "fall_12m"),
            "customs": ("first_declaration",),
            "electricity": ("months_with_usage", "usage_fall"),
            "first_time": ("first_filing",),
        },
    ),
    Profile(
        name="tiny",
        title="sells for 60,000 a year",
        sales_percent=1,
        purchase_percent=85,
        breaks={"technology": ("filed_sales",), "tax": ("tax_paid",)},
    ),
    # --- tax --------------------------------------------------------------------------------
    Profile(
        name="no_tax",
        title="buys more than it sells: no tax to pay",
        purchase_percent=140,
        breaks={"tax": ("tax_paid",)},
    ),
    Profile(
        name="late_filing",
        title="four filings of the last year were late",
        late=_months(2, 4, 6, 8),
        breaks={"technology": ("late_filings",)},
    ),
    Profile(
        name="unpaid_filing",
        title="a filing is unpaid past its day",
        unpaid=_months(3),
        breaks={"tax": ("no_overdue_filing",), "first_time": ("no_overdue_filing",)},
    ),
    Profile(
        name="unfiled",
        title="a month was not filed",
        unfiled=_months(3),
        breaks={"tax": ("no_overdue_filing",), "first_time": ("no_overdue_filing",)},
    ),
    Profile(
        name="no_filings",
        title="no filing for more than a year",
        filings_end=13,
        breaks={"electricity": ("filings",), "technology": ("filed_sales",)},
    ),
    Profile(name="grade_c", title="tax credit grade C", grade="C", breaks={"tax": ("grade",)}),
    Profile(
        name="grade_d",
        title="tax credit grade D",
        grade="D",
        breaks={"tax": ("grade",), "contest": ("grade",)},
    ),
    Profile(
        name="grade_m",
        title="tax credit grade M: new, and no bad grade",
        grade="M",
        breaks={"contest": ("grade",)},
    ),
    Profile(
        name="open_arrears",
        title="tax arrears are open",
        open_arrears=True,
        breaks={"tax": ("no_open_arrears",), "invoice": ("no_open_arrears",)},
    ),
    # --- electricity, customs, technology, credit ---------------------------------------------
    Profile(
        name="usage_fall",
        title="uses half the electricity of a year ago",
        usage_last_year_percent=52,
        breaks={"electricity": ("usage_fall",)},
    ),
    Profile(
        name="usage_missing",
        title="a month without electricity",
        usage_missing=_months(5),
        breaks={"electricity": ("months_with_usage",)},
    ),
    Profile(
        name="usage_arrears",
        title="an electricity bill is unpaid",
        usage_arrears=True,
        breaks={"electricity": ("no_arrears",)},
    ),
    Profile(
        name="cancelled_declarations",
        title="a third of the declarations was cancelled",
        cancelled_percent=34,
        breaks={"customs": ("cancelled",)},
    ),
    Profile(
        name="few_exports",
        title="exports in four of the last 12 months",
        export_months=frozenset((*range(12, 60), 1, 4, 7, 10)),
        breaks={"customs": ("export_months",)},
    ),
    Profile(
        name="new_exporter",
        title="exports since eight months",
        export_history=8,
        breaks={"customs": ("first_declaration",)},
    ),
    Profile(
        name="expired_certificate",
        title="its certificates have expired",
        certificates_expired=True,
        breaks={"technology": ("qualification",)},
    ),
    Profile(
        name="loans_elsewhere",
        title="borrows elsewhere",
        loans=3,
        borrowed=True,
        breaks={"first_time": ("no_loans_elsewhere", "first_borrower")},
    ),
    Profile(
        name="borrowed_before",
        title="borrowed once and repaid",
        borrowed=True,
        breaks={"first_time": ("first_borrower",)},
    ),
    # --- security ---------------------------------------------------------------------------
    Profile(
        name="completed_award",
        title="its award is completed",
        award_state="completed",
        breaks={"procurement": ("award_valid",)},
    ),
    Profile(
        name="private_buyer",
        title="the buyer is no public body",
        award_public=False,
        breaks={"procurement": ("public_buyer",)},
    ),
    Profile(
        name="award_without_account",
        title="the award names no account",
        award_account=False,
        breaks={"procurement": ("account_fixed",)},
    ),
    Profile(
        name="terminated_contract",
        title="its engineering contract was terminated",
        contract_state="terminated",
        breaks={"engineering": ("contract_valid",)},
    ),
    Profile(
        name="late_owner",
        title="the owner pays late",
        contract_overdue=True,
        breaks={"engineering": ("owner_on_time",)},
    ),
    Profile(
        name="contract_without_account",
        title="the contract names no account",
        contract_account=False,
        breaks={"engineering": ("account_fixed",)},
    ),
)

PROFILES: Mapping[str, Profile] = MappingProxyType({each.name: each for each in _LIST})
"""By name."""
