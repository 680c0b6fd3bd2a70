"""The device of an entry, needed by both its engine and its budget."""

from __future__ import annotations

from kvcalc.hardware import gpu_named
from kvcalc.hardware.gpu import Gpu
from kvcalc.hardware.written import with_memory
from kvcalc.io.plans.row import Row


def gpu_of(row: Row) -> Gpu | None:
    """The device of gpu and memory, if either is given."""
    entry = row.entry
    if entry.gpu is None and entry.memory is None:
        return None
    name = None if entry.gpu is None else str(entry.gpu)
    field = "gpu" if entry.memory is None else "memory"
    return row.take("gpu" if name else field, gpu_named, row.take(field, with_memory, name, entry.memory))
