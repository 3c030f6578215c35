"""A portrait as one HTML page that needs nothing else: no address is in it, and its policy forbids every request.

Invariants:

* Every text passes through the template's escaping; only the style sheet and its font are put in as they are, and
  both are ours.
* The same portrait and font give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from taxledger.lending.report.blocks import Portrait
from taxledger.lending.report.fonts import find_font, subset_woff2

__all__ = ["render_html"]

_FOLDER = resources.files("taxledger.lending.report") / "templates"
_LANGUAGE_TAGS = {"zh": "zh-CN", "en": "en"}


def render_html(portrait: Portrait, font: Path | None = None) -> bytes:
    """The page, UTF-8.

    Args:
        portrait: what it shows.
        font: the file to embed; None for the one that ``find_font`` finds.

    Raises:
        FormatError: there is no font.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((_FOLDER / "report.html").read_text("utf-8"))
    values = {"portrait": portrait, "tag": _LANGUAGE_TAGS[portrait.language], "kind_of": _kind_of}
    words = template.render(**values, style="", policy="")
    embedded = subset_woff2(font or find_font(), words + "…–−·")
    style = (
        (_FOLDER / "report.css")
        .read_text("utf-8")
        .replace("FONT_DATA", base64.b64encode(embedded).decode("ascii"))
    )
    # The style is allowed by its hash alone: a style that a text smuggled in would not be applied.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; font-src data:; base-uri 'none'; form-action 'none'"
    return template.render(**values, style=Markup(style), policy=policy).encode()  # noqa: S704 our own file


def _kind_of(block: object) -> str:
    return type(block).__name__.lower()
