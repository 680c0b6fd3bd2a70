"""kvcalc: how many bytes the KV cache of a language model takes, exactly.

import kvcalc

model = kvcalc.load("r1")
report = kvcalc.size(model, tokens=100_000)
report.total_bytes  # 7027200000
"""

from __future__ import annotations

from kvcalc.errors import (
    InvalidFileError,
    InvalidValueError,
    KvcalcError,
    MissingExtraError,
    NotApplicableError,
    UnknownArchitectureError,
    UnknownNameError,
)
from kvcalc.io.loading import load
from kvcalc.methods import apply_method
from kvcalc.model import Model
from kvcalc.report import Report
from kvcalc.sizing import size, sweep

__version__ = "0.1.0"

__all__ = [
    "InvalidFileError",
    "InvalidValueError",
    "KvcalcError",
    "MissingExtraError",
    "Model",
    "NotApplicableError",
    "Report",
    "UnknownArchitectureError",
    "UnknownNameError",
    "__version__",
    "apply_method",
    "load",
    "size",
    "sweep",
]
