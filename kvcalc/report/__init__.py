"""What a calculation found, as exact integers with the words that explain them. Formats render these and nothing else.

Each report offers two views: `data()`, plain values for JSON, and `sheets()`, tables with typed columns for eyes.
"""

from __future__ import annotations

from kvcalc.report.check import CheckReport, Finding
from kvcalc.report.comparison import Comparison, ComparisonRow
from kvcalc.report.gallery import Entry, Gallery
from kvcalc.report.sheet import Column, Document, Sheet, Stack
from kvcalc.report.size import GroupReport, Report, TensorReport, policy_remarks
from kvcalc.report.views import Explanation, Layers, Lengths

__all__ = [
    "CheckReport",
    "Column",
    "Comparison",
    "ComparisonRow",
    "Document",
    "Entry",
    "Explanation",
    "Finding",
    "Gallery",
    "GroupReport",
    "Layers",
    "Lengths",
    "Report",
    "Sheet",
    "Stack",
    "TensorReport",
    "policy_remarks",
]
