"""The officer's report: a portrait of an enterprise from verified evidence, as one HTML page and as a PDF."""

from __future__ import annotations

from taxledger.lending.report.html import render_html
from taxledger.lending.report.pdf import render_pdf
from taxledger.lending.report.portrait import EvidenceNote, make_portrait, notes_of
from taxledger.lending.report.texts import LANGUAGES, Language

__all__ = ["LANGUAGES", "EvidenceNote", "Language", "make_portrait", "notes_of", "render_html", "render_pdf"]
