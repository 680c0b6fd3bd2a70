"""Measured memory: the process's own pages on the CPU, the allocator's figures on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

import psutil
import torch

from kvcalc.report.verification import MemoryReading
from kvcalc.units import KIB

CUDA_ROUNDING_BYTES = 512
"""What CUDA's caching allocator rounds each block up to: kMinBlockSize of torch's CUDACachingAllocator."""
CUDA_SMALL_BYTES = 2**20
"""Larger blocks keep a remainder of up to this much, unless segments are expandable: kSmallSize, should_split()."""
_SHARE = 3, 4
"""Share of the free memory for the caches; weights and the work of one layer need the rest."""


class Meter(Protocol):
    """Adds up the change of memory inside its context."""

    def __enter__(self) -> Self:
        """Starts counting."""
        ...

    def __exit__(self, *_: object) -> None:
        """Adds the change since then."""
        ...

    def reading(self, storages: Sequence[int], let_go: Callable[[], None]) -> MemoryReading | None:
        """The counted bytes, next to what storages of these sizes should take; None if there is nothing to read.

        let_go: drops the caches, whose storages these are; nothing else holds them.
        """
        ...


def meter_for(device: str, *, fresh_process: bool) -> Meter:
    """Meter of a device. On the CPU, only a process in which nothing ran before can be measured."""
    if device == "cuda":
        return AllocatorMeter()
    return ResidentMeter() if device == "cpu" and fresh_process else NoMeter()


class NoMeter:
    """Nothing to read: meta has no memory, or the process was used before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def reading(self, storages: Sequence[int], let_go: Callable[[], None]) -> MemoryReading | None:  # noqa: ARG002
        """Nothing."""
        return None


class ResidentMeter:
    """Anonymous pages of this process; each written page is resident."""

    def __init__(self) -> None:
        self._grown = 0

    def __enter__(self) -> Self:
        self._before = _own_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        self._grown += _own_bytes() - self._before

    def reading(self, storages: Sequence[int], let_go: Callable[[], None]) -> MemoryReading:  # noqa: ARG002
        """Bytes that became resident."""
        return MemoryReading("resident", sum(storages), self._grown)


def _own_bytes() -> int:
    """Resident bytes of this process alone, independent of what others map or unmap.

    Linux counts anonymous pages apart. (The unique set size falls when another process loads the same library.)
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return int(psutil.Process().memory_full_info().uss)
    (anonymous,) = [line for line in lines if line.startswith("RssAnon:")]
    return int(anonymous.split()[1]) * KIB


class AllocatorMeter(NoMeter):
    """The CUDA caching allocator's own figures: what is freed when the caches are dropped.

    Counted at the end, since states pending a full block move to new memory with each token, and cuBLAS workspaces come
    from the same allocator. Each storage takes a multiple of 512 bytes; without expandable segments, a large one may
    also keep the rest of the block that it came from.
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
    """What the allocator takes for a storage of this size: the next multiple of 512."""
    return -(-size_bytes // CUDA_ROUNDING_BYTES) * CUDA_ROUNDING_BYTES


def _allocated() -> tuple[int, int]:
    """Bytes of all blocks in use, and of the requests in them."""
    stats = torch.cuda.memory_stats()
    return stats["allocated_bytes.all.current"], stats["requested_bytes.all.current"]


def _expandable() -> bool:
    """Whether the allocator has growing segments, which it splits at 512 bytes regardless of size."""
    return any(segment.get("is_expandable") for segment in torch.cuda.memory_snapshot())


def free_memory_bytes(device: str) -> int:
    """Bytes of a device's free memory available to caches."""
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    share, whole = _SHARE
    return int(free) * share // whole
