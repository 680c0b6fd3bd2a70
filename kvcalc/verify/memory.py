"""What memory says: the process's own pages on the CPU, the allocator's figures on CUDA."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Self

import psutil
import torch

from kvcalc.report.verification import MemoryReading

CUDA_ROUNDING_BYTES = 512
"""What CUDA's caching allocator rounds each block up to: kMinBlockSize of torch's CUDACachingAllocator."""
_SHARE = 3, 4
"""Of the free memory, what the caches may take; weights and the work of one layer need the rest."""


class Meter(Protocol):
    """Adds up what memory changes by while it is entered."""

    def __enter__(self) -> Self:
        """Starts to count."""
        ...

    def __exit__(self, *_: object) -> None:
        """Adds what came since."""
        ...

    def reading(self, storages: Iterable[int]) -> MemoryReading | None:
        """What was counted, beside what storages of so many bytes should take; None where memory says nothing."""
        ...


def meter_for(device: str, *, fresh_process: bool) -> Meter:
    """Meter of a device. On the CPU, only a process in which nothing ran before can be measured."""
    if device == "cuda":
        return AllocatorMeter()
    return ResidentMeter() if device == "cpu" and fresh_process else NoMeter()


class NoMeter:
    """Where there is nothing to read: no memory on meta, and a process that others used before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def reading(self, storages: Iterable[int]) -> None:  # noqa: ARG002
        """Nothing."""
        return


class ResidentMeter:
    """Pages of this process alone (its unique set size), of which every one that was written is resident."""

    def __init__(self) -> None:
        self._grown = 0

    def __enter__(self) -> Self:
        self._before = psutil.Process().memory_full_info().uss
        return self

    def __exit__(self, *_: object) -> None:
        self._grown += psutil.Process().memory_full_info().uss - self._before

    def reading(self, storages: Iterable[int]) -> MemoryReading:
        """Bytes that became resident."""
        return MemoryReading("resident", sum(storages), self._grown)


class AllocatorMeter:
    """The CUDA caching allocator's own figures; each storage takes a multiple of 512 bytes."""

    def __init__(self) -> None:
        self._allocated = self._reserved = 0
        torch.cuda.reset_peak_memory_stats()

    def __enter__(self) -> Self:
        self._before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        return self

    def __exit__(self, *_: object) -> None:
        allocated, reserved = self._before
        self._allocated += torch.cuda.memory_allocated() - allocated
        self._reserved += torch.cuda.memory_reserved() - reserved

    def reading(self, storages: Iterable[int]) -> MemoryReading:
        """Bytes allocated and reserved, and the peak with weights and workspace."""
        rounded = sum(-(-size // CUDA_ROUNDING_BYTES) * CUDA_ROUNDING_BYTES for size in storages)
        peak = torch.cuda.max_memory_allocated()
        return MemoryReading("allocated", rounded, self._allocated, self._reserved, peak)


def free_memory_bytes(device: str) -> int:
    """What caches may take of a device's free memory."""
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    share, whole = _SHARE
    return int(free) * share // whole
