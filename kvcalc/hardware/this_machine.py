"""The device of the machine that this runs on, as nvidia-smi or macOS reports it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import cache
from shutil import which

from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError
from kvcalc.errors.foreign import listed
from kvcalc.hardware.gpu import APPLE, MEASURED, Gpu
from kvcalc.hardware.naming import device
from kvcalc.units import GIB, MIB

_NVIDIA_SMI = ("nvidia-smi", "--format=csv,noheader,nounits")
_FIELDS = ("name", "memory.total", "memory.reserved", "compute_cap")
_OF_OLD_DRIVERS = ("name", "memory.total")
"""What drivers of before 2021 know."""
_SYSCTL = ("sysctl", "-n")
_SECONDS = 20
_HELP = "name it: --gpu h100-80gb, or pass its memory: --memory 64GB"
_NEITHER = "this machine has neither nvidia-smi nor Apple's sysctl"


def gpu_of_this_machine() -> Gpu:
    """Its device, with the memory that is reported here.

    nvidia-smi: total less reserved, which is what CUDA calls total. macOS: the limit that iogpu.wired_limit_mb sets, or
    else that of its size. Raises NotApplicableError if neither answers, InvalidValueError if GPUs differ.
    """
    return _reported(os.environ.get("PATH", ""))


@cache
def _reported(path: str) -> Gpu:
    """The same; another PATH may find other programs."""
    if which(_NVIDIA_SMI[0], path=path):
        return _of_nvidia_smi()
    found = _asked(*_SYSCTL, "hw.memsize", "machdep.cpu.brand_string") if which(_SYSCTL[0], path=path) else None
    if found is None or len(found) < len(("memory", "chip")) or not found[0].isdigit():
        raise NotApplicableError(_NEITHER, help=_HELP)
    return _of_apple(int(found[0]), found[1])


def _of_nvidia_smi() -> Gpu:
    fields: Sequence[str] = _FIELDS
    lines = _queried(fields)
    if lines is None:
        fields = _OF_OLD_DRIVERS
        lines = _queried(fields)
    if not lines:
        raise NotApplicableError("nvidia-smi on this machine lists no GPU", help=_HELP)
    different = dict.fromkeys(lines)
    if len(different) > 1:
        raise InvalidValueError(
            f"this machine has several kinds of GPUs: {listed([line.partition(',')[0] for line in different])}",
            field="gpu",
            help=_HELP,
        )
    return _of_line(dict(zip(fields, [value.strip() for value in lines[0].split(",")], strict=False)))


def _queried(fields: Sequence[str]) -> list[str] | None:
    program, form = _NVIDIA_SMI
    return _asked(program, f"--query-gpu={','.join(fields)}", form)


def _of_line(said: dict[str, str]) -> Gpu:
    name, total, reserved = said["name"], said.get("memory.total", ""), said.get("memory.reserved", "0")
    if not total.isdigit():  # one with unified memory has no total
        return device(name)
    taken = int(reserved) if reserved.isdigit() else 0
    mib = int(total) - taken
    source = f"nvidia-smi on this machine: {int(total):,} MiB minus {taken:,} MiB reserved"
    gpu = _like(name, int(total), said.get("compute_cap", ""))
    return gpu.with_memory(mib * MIB, MEASURED, source, f"{gpu.name}@{mib}MiB")


def _like(name: str, total_mib: int, capability: str) -> Gpu:
    """The device of that name, by size if there are several; by compute capability if the name is unknown."""
    for spelling in (name, f"{name} {-(-total_mib * MIB // GIB)}GB"):
        try:
            return device(spelling)
        except KvcalcError:
            continue
    major, dot, minor = capability.partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        return device(name)
    return device(f"sm_{major}{minor}")


def _of_apple(memory_bytes: int, chip: str) -> Gpu:
    gib = memory_bytes // GIB
    gpu = device(f"{chip} {gib}GB")
    if gpu.vendor != APPLE:
        raise NotApplicableError(_NEITHER, help=_HELP)
    limit = _asked(*_SYSCTL, "iogpu.wired_limit_mb")
    if not limit or not limit[0].isdigit() or not int(limit[0]):
        return gpu
    source = f"iogpu.wired_limit_mb on this machine: {int(limit[0]):,} MiB"
    return gpu.with_memory(int(limit[0]) * MIB, MEASURED, source, f"{gpu.name}@{limit[0]}MiB")


def _asked(*command: str) -> list[str] | None:
    """Lines of a program's output; None if it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else [line.strip() for line in done.stdout.splitlines() if line.strip()]
