"""What the reports of engines' own planners have in common: who was asked, how, and of which memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvcalc.report.fit import FitReport
    from kvcalc.report.pool import PoolReport


def asked(report: FitReport | PoolReport) -> dict[str, Any]:
    """Plain values of the question; available_bytes: of a rank of each pipeline stage."""
    return {
        "model": report.model,
        "engine": report.engine,
        "version": report.version,
        "gpu": report.gpu,
        "engine_settings": dict(report.engine_settings),
        "parallel": report.parallel,
        "available_bytes": list(report.available_bytes),
    }


def title(report: FitReport | PoolReport) -> str:
    """The question in a line."""
    ranks = f", {report.parallel}" if report.parallel else ""
    return f"{report.model} in {report.engine} {report.version} on {report.gpu}{ranks}"
