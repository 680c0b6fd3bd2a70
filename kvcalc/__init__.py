"""kvcalc: how many bytes the KV cache of a language model takes, exactly.

import kvcalc

report = kvcalc.size("r1", tokens=100_000)
report.total_bytes  # 7027200000
report.to_dict()  # what `kvcalc size r1 100000 --format json` prints
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvcalc.errors import InvalidFileError as InvalidFileError
    from kvcalc.errors import InvalidValueError as InvalidValueError
    from kvcalc.errors import KvcalcError as KvcalcError
    from kvcalc.errors import NotApplicableError as NotApplicableError
    from kvcalc.errors import UnknownArchitectureError as UnknownArchitectureError
    from kvcalc.errors import UnknownNameError as UnknownNameError
    from kvcalc.fleet.replay import replay as replay
    from kvcalc.hardware import gpus as gpus
    from kvcalc.hardware.gpu import Gpu as Gpu
    from kvcalc.io.api import check as check
    from kvcalc.io.api import compare as compare
    from kvcalc.io.api import decode as decode
    from kvcalc.io.api import deployments as deployments
    from kvcalc.io.api import diff as diff
    from kvcalc.io.api import explain as explain
    from kvcalc.io.api import fit as fit
    from kvcalc.io.api import fit_gpus as fit_gpus
    from kvcalc.io.api import fits as fits
    from kvcalc.io.api import plot as plot
    from kvcalc.io.api import presets as presets
    from kvcalc.io.api import replays as replays
    from kvcalc.io.api import replicas as replicas
    from kvcalc.io.api import size as size
    from kvcalc.io.api import sweep as sweep
    from kvcalc.io.api import traffic as traffic
    from kvcalc.io.api import transfer as transfer
    from kvcalc.io.cluster import on_ray as on_ray
    from kvcalc.io.loading import load as load
    from kvcalc.methods import apply_method as apply_method
    from kvcalc.model import Model as Model
    from kvcalc.parallel import Parallel as Parallel
    from kvcalc.report.check import CheckReport as CheckReport
    from kvcalc.report.comparison import Comparison as Comparison
    from kvcalc.report.curves import CurvesReport as CurvesReport
    from kvcalc.report.decode import DecodeReport as DecodeReport
    from kvcalc.report.deployments import DeploymentsReport as DeploymentsReport
    from kvcalc.report.diff import DiffReport as DiffReport
    from kvcalc.report.fit import FitReport as FitReport
    from kvcalc.report.fits import FitsReport as FitsReport
    from kvcalc.report.gallery import Gallery as Gallery
    from kvcalc.report.gpu_fit import GpuFit as GpuFit
    from kvcalc.report.log import LogReport as LogReport
    from kvcalc.report.method_comparison import MethodComparison as MethodComparison
    from kvcalc.report.replay import ReplayReport as ReplayReport
    from kvcalc.report.replays import ReplaysReport as ReplaysReport
    from kvcalc.report.replicas import ReplicasReport as ReplicasReport
    from kvcalc.report.size import Report as Report
    from kvcalc.report.traffic import TrafficReport as TrafficReport
    from kvcalc.report.transfer import TransferReport as TransferReport

__version__ = "0.1.0"

_HOMES = {
    "kvcalc.errors": (
        "InvalidFileError",
        "InvalidValueError",
        "KvcalcError",
        "NotApplicableError",
        "UnknownArchitectureError",
        "UnknownNameError",
    ),
    "kvcalc.fleet.replay": ("replay",),
    "kvcalc.hardware": ("gpus",),
    "kvcalc.hardware.gpu": ("Gpu",),
    "kvcalc.io.api": (
        "check",
        "compare",
        "decode",
        "deployments",
        "diff",
        "explain",
        "fit",
        "fit_gpus",
        "fits",
        "plot",
        "presets",
        "replays",
        "replicas",
        "size",
        "sweep",
        "traffic",
        "transfer",
    ),
    "kvcalc.io.cluster": ("on_ray",),
    "kvcalc.io.loading": ("load",),
    "kvcalc.methods": ("apply_method",),
    "kvcalc.model": ("Model",),
    "kvcalc.parallel": ("Parallel",),
    "kvcalc.report.check": ("CheckReport",),
    "kvcalc.report.comparison": ("Comparison",),
    "kvcalc.report.curves": ("CurvesReport",),
    "kvcalc.report.decode": ("DecodeReport",),
    "kvcalc.report.deployments": ("DeploymentsReport",),
    "kvcalc.report.diff": ("DiffReport",),
    "kvcalc.report.fit": ("FitReport",),
    "kvcalc.report.fits": ("FitsReport",),
    "kvcalc.report.gallery": ("Gallery",),
    "kvcalc.report.gpu_fit": ("GpuFit",),
    "kvcalc.report.log": ("LogReport",),
    "kvcalc.report.method_comparison": ("MethodComparison",),
    "kvcalc.report.replay": ("ReplayReport",),
    "kvcalc.report.replays": ("ReplaysReport",),
    "kvcalc.report.replicas": ("ReplicasReport",),
    "kvcalc.report.size": ("Report",),
    "kvcalc.report.traffic": ("TrafficReport",),
    "kvcalc.report.transfer": ("TransferReport",),
}
"""Module of each public name. They are loaded when first used: the command line imports this package too."""

__all__ = [*(name for names in _HOMES.values() for name in names), "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = vars(import_module(module))[name]
            return value
    raise AttributeError(f"module 'kvcalc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
