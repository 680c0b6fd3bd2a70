"""Common parts of planners' reports: engine, question and memory."""

from __future__ import annotations

from typing import Protocol

from kvcalc.report.sheet import Cell, Json, Line, plain
from kvcalc.units import both_units


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
    @property
    def allocated_bytes(self) -> tuple[int, ...]: ...  # noqa: D102


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


def memory_lines(report: Planned) -> tuple[Line, ...]:
    """What is allocated of what is available, once for stages that are alike."""
    stages = zip(report.allocated_bytes, report.available_bytes, strict=True)
    words = dict.fromkeys(f"{both_units(allocated)} of {both_units(available)}" for allocated, available in stages)
    return tuple(Line("memory", each) for each in words)


def title(report: Planned) -> str:
    """The question as one line."""
    ranks = f", {report.parallel}" if report.parallel else ""
    return f"{report.model} in {report.engine} {report.version} on {report.gpu}{ranks}"
