"""What memory says: the process's own pages on the CPU, the allocator's figures on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

import psutil
import torch

from kvcalc.report.verification import MemoryReading

CUDA_ROUNDING_BYTES = 512
"""What CUDA's caching allocator rounds each block up to: kMinBlockSize of torch's CUDACachingAllocator."""
CUDA_SMALL_BYTES = 2**20
"""Larger blocks keep a rest of up to as much, unless segments are expandable: kSmallSize, should_split()."""
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

    def reading(self, storages: Sequence[int], let_go: Callable[[], None]) -> MemoryReading | None:
        """What was counted, beside what storages of so many bytes should take; None where memory says nothing.

        let_go: drops the caches, whose storages these are; nothing else holds them.
        """
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

    def reading(self, storages: Sequence[int], let_go: Callable[[], None]) -> MemoryReading | None:  # noqa: ARG002
        """Nothing."""
        return None


class ResidentMeter:
    """Pages of this process alone (its unique set size), of which every one that was written is resident."""

    def __init__(self) -> None:
        self._grown = 0

    def __enter__(self) -> Self:
        self._before = psutil.Process().memory_full_info().uss
        return self

    def __exit__(self, *_: object) -> None:
        self._grown += psutil.Process().memory_full_info().uss - self._before

    def reading(self, storages: Sequence[int], let_go: Callable[[], None]) -> MemoryReading:  # noqa: ARG002
        """Bytes that became resident."""
        return MemoryReading("resident", sum(storages), self._grown)


class AllocatorMeter(NoMeter):
    """The CUDA caching allocator's own figures: what it gets back when the caches go.

    Counted at the end, since states that wait for a block to fill move to new memory with each token, and work of
    cuBLAS comes from the same allocator. Each storage takes a multiple of 512 bytes; without expandable segments, a
    large one may also keep the rest of the block that it came from.
    """

    def __init__(self) -> None:
        torch.cuda.init()  # the allocator has no figures before
        torch.cuda.reset_peak_memory_stats()

    def reading(self, storages: Sequence[int], let_go: Callable[[], None]) -> MemoryReading:
        """Bytes allocated and asked for; bytes reserved and the peak with weights and workspace."""
        reserved, peak = torch.cuda.memory_reserved(), torch.cuda.max_memory_allocated()
        spare_bytes = 0 if _expandable() else CUDA_SMALL_BYTES * sum(size > CUDA_SMALL_BYTES for size in storages)
        allocated, requested = _allocated()
        let_go()
        allocated_after, requested_after = _allocated()
        return MemoryReading(
            kind="allocated",
            predicted_bytes=sum(map(rounded_up, storages)),
            measured_bytes=allocated - allocated_after,
            reserved_bytes=reserved,
            peak_bytes=peak,
            spare_bytes=spare_bytes,
            storage_bytes=sum(storages),
            requested_bytes=requested - requested_after,
        )


def rounded_up(size_bytes: int) -> int:
    """What the allocator takes for a storage of so many bytes: the next multiple of 512."""
    return -(-size_bytes // CUDA_ROUNDING_BYTES) * CUDA_ROUNDING_BYTES


def _allocated() -> tuple[int, int]:
    """Bytes of all blocks in use, and what was asked for in them."""
    stats = torch.cuda.memory_stats()
    return stats["allocated_bytes.all.current"], stats["requested_bytes.all.current"]


def _expandable() -> bool:
    """Whether the allocator has segments that grow, which it splits at 512 bytes whatever their size."""
    return any(segment.get("is_expandable") for segment in torch.cuda.memory_snapshot())


def free_memory_bytes(device: str) -> int:
    """What caches may take of a device's free memory."""
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    share, whole = _SHARE
    return int(free) * share // whole
