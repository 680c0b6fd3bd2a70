"""Common parts of planners' reports: engine, question and memory."""

from __future__ import annotations

from typing import Protocol

from kvcalc.report.sheet import Cell, Json, plain


class Planned(Protocol):
    """The question of such a report, each field as in `kvcalc.fit`."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def engine(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def gpu(self) -> str: ...  # noqa: D102
    @property
    def engine_settings(self) -> tuple[tuple[str, Json], ...]: ...  # noqa: D102
    @property
    def parallel(self) -> str: ...  # noqa: D102
    @property
    def available_bytes(self) -> tuple[int, ...]: ...  # noqa: D102


def asked(report: Planned) -> dict[str, Json]:
    """Plain values of the question; available_bytes: of a rank of each pipeline stage."""
    return {
        "model": report.model,
        "engine": report.engine,
        "version": report.version,
        "gpu": report.gpu,
        "engine_settings": plain(dict(report.engine_settings)),
        "parallel": report.parallel,
        "available_bytes": list(report.available_bytes),
    }


def common(report: Planned) -> tuple[tuple[str, Cell], ...]:
    """The question as columns of a table for programs."""
    return (
        *(("model", report.model), ("engine", report.engine), ("engine_version", report.version)),
        *(("gpu", report.gpu), ("parallel", report.parallel)),
    )


def title(report: Planned) -> str:
    """The question as one line."""
    ranks = f", {report.parallel}" if report.parallel else ""
    return f"{report.model} in {report.engine} {report.version} on {report.gpu}{ranks}"
