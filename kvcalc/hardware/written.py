"""A device as written: a name, an amount of memory, or both."""

from __future__ import annotations

import re
from functools import cache

from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.errors.foreign import quoted
from kvcalc.hardware.catalogue import entry, gpu_of, is_device
from kvcalc.hardware.gpu import CPU, GIVEN, Gpu
from kvcalc.units import parse_bytes

AT = "@"
"""Separates a device from its given memory: rtx-4090@48GB."""
_MEMORY = r"[\d.,_]+ ?[kKMGT]?i?B"


def with_memory(name: str | None, memory: str | int | None) -> str:
    """A name and its given memory, either of which may be missing, as `gpu_named` reads them."""
    if memory is None:
        return name or ""
    parse_bytes(memory, "memory")
    amount = f"{memory}B" if isinstance(memory, int) else memory.strip()
    return f"{name.partition(AT)[0]}{AT}{amount}" if name else amount


@cache
def written_for(written: str) -> Gpu:
    """The device. Raises as `gpu_named` does."""
    if is_device(written):
        return gpu_of(written, entry(written))

    from kvcalc.hardware.naming import device

    base, at, memory = written.rpartition(AT)
    if at:
        return _given(_cpu(base.strip()) or device(base.strip()), memory)
    if re.fullmatch(_MEMORY, written):
        return _given(Gpu(f"{written} device", 0, ""), written)
    if _cpu(written):
        raise NotApplicableError(
            f"the memory of a CPU does not follow from its name ({written})",
            help=f"pass it, as in {written}{AT}64GB; or give the cache's memory: available_bytes in kvcalc.fit, budget "
            "in plans",
        )
    gpu = device(written)
    if gpu.memory_bytes:
        return gpu
    raise InvalidValueError(
        f"the memory of {quoted(written)} is unknown{f': {gpu.note}' if gpu.note else ''}",
        help=f"pass it, as in {gpu.name}{AT}64GB",
    )


def _cpu(name: str) -> Gpu | None:
    """A CPU, whose name does not determine its memory; engines identify it by the part after the dash."""
    of_a_cpu = name.lower().partition("-")[0] == CPU
    return Gpu(name.lower(), 0, "", vendor=CPU, kind=CPU, memory_from="", written=name.lower()) if of_a_cpu else None


def _given(gpu: Gpu, memory: str) -> Gpu:
    """The device with the given memory."""
    memory_bytes = parse_bytes(memory.strip(), "memory")
    if not memory_bytes:
        raise InvalidValueError("memory must be above 0", field="memory", help="write 80GB, 80GiB or bytes")
    amount = memory.strip()
    written = f"{gpu.written}{AT}{amount}" if gpu.written else amount
    return gpu.with_memory(memory_bytes, GIVEN, f"given as {amount}", written)
