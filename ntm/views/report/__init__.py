"""A report on many runs: a page that opens offline, the same in Markdown, a table, the figures."""

from __future__ import annotations

from ntm.views.report.page import Section, section, sections, write
from ntm.views.report.pictures import ylabel
from ntm.views.report.words import markdown, number

__all__ = ["Section", "markdown", "number", "section", "sections", "write", "ylabel"]
