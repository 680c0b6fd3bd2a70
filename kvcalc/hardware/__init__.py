"""Devices by name, with the memory that their driver reports and what their cores can do: `presets/gpus.yaml`.

gpu          facts of a device, and how its memory was established
catalogue    the file, read only as far as an answer needs
naming       the device of a name as written by people, drivers and Kubernetes; ambiguous names are refused
written      a name, an amount of memory, or both
this_machine the devices of this machine, from nvidia-smi or macOS

Every start-up imports this for the presets' folder; the rest is imported on demand.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvcalc.hardware.gpu import Gpu as Gpu

GPUS_FILE = "gpus.yaml"
AUTO = "auto"
"""Name for this machine's device."""
_LONGEST = 200


def presets_folder() -> Path:
    """Folder of the shipped presets: next to the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "presets"
    return inside if inside.is_dir() else package.parent / "presets"


def gpu_named(name: str) -> Gpu:
    """Device of that name or alias, `auto` for this machine's, `64GB` for any other; `rtx-4090@48GB` gives its memory.

    Raises UnknownNameError with the nearest, InvalidValueError for an ambiguous name or unknown memory,
    NotApplicableError for a CPU, whose name does not determine its memory.
    """
    written = str(name).strip()[:_LONGEST]
    if written.lower() == AUTO:
        from kvcalc.hardware.this_machine import gpu_of_this_machine

        return gpu_of_this_machine()

    from kvcalc.hardware.written import written_for

    return written_for(written)


@cache
def gpus() -> tuple[Gpu, ...]:
    """Every device whose memory is known by its name, in the order of the file."""
    from kvcalc.hardware.catalogue import entry, gpu_of, namings

    known = ((each.name, entry(each.name)) for each in namings())
    return tuple(gpu_of(name, facts) for name, facts in known if "memory_bytes" in facts)


def __getattr__(name: str) -> object:
    if name == "Gpu":
        from kvcalc.hardware.gpu import Gpu

        return Gpu
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
