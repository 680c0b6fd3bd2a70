"""Facts of a device that may hold a cache."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.units import MIB, both_units

NVIDIA, APPLE, CPU = "nvidia", "apple", "cpu"
DRIVER_BYTES, DRIVER_MIB, NVIDIA_SMI, DATA_SHEET = "driver bytes", "driver MiB", "nvidia-smi", "data sheet"
MACOS, MACOS_RULE = "macOS", "rule of macOS"
GIVEN, MEASURED, MIG_NAME = "given", "this machine", "MIG profile"
"""How the memory of a device was established."""
_IN_WORDS = {
    NVIDIA_SMI: "nvidia-smi's total; CUDA's own, 0.5 to 3% lower, is unknown",
    DATA_SHEET: "from the data sheet; the driver's figure is unknown and may differ by a few percent",
    MIG_NAME: "from the name of its MIG profile; the driver reports slightly more",
}
_SPREAD_PERCENT = 1
"""Difference above which other figures are worth a note."""
_RESERVED_PERCENT = 4
"""Largest part of a card's memory reserved by its driver: nvidia-smi's total minus CUDA's."""
_ARCHITECTURES = {(7, 0): "Volta", (7, 5): "Turing", (8, 9): "Ada"}
_GENERATIONS = {6: "Pascal", 8: "Ampere", 9: "Hopper", 10: "Blackwell", 11: "Blackwell", 12: "Blackwell"}
"""Names of NVIDIA's generations by compute capability: developer.nvidia.com/cuda-gpus."""


class Gpu(NamedTuple):
    """A device by the memory its driver reports, in bytes, not the number on the box.

    source: of memory_bytes. memory_from: how that was established, as `presets/gpus.yaml` explains.
    compute_capability: NVIDIA's (major, minor); None for others. kind: what it is sold for.
    nvidia_smi_mib: nvidia-smi's total. seen_mib: least and most that drivers on Linux report; windows_mib: on Windows;
    ecc: `on` or `off`, and nvidia-smi's total then, where memory_bytes is of the other. newer_macos_bytes: what newer
    macOS allows. bandwidth_mb_s: of memory, in 10^6 bytes a second. bf16_gflops, fp8_gflops: dense.
    written: the name by which `gpu_named` finds it again. caveat: for planning with it.
    """

    name: str
    memory_bytes: int
    source: str
    compute_capability: tuple[int, int] | None = None
    vendor: str = ""
    kind: str = ""
    memory_from: str = DRIVER_BYTES
    aliases: tuple[str, ...] = ()
    architecture: str = ""
    nvidia_smi_mib: int | None = None
    seen_mib: tuple[int, int] | None = None
    windows_mib: int | None = None
    ecc: tuple[str, int] | None = None
    newer_macos_bytes: int | None = None
    bandwidth_mb_s: int | None = None
    interconnect: str = ""
    bf16_gflops: int | None = None
    fp8_gflops: int | None = None
    specs_source: str = ""
    caveat: str = ""
    note: str = ""
    written: str = ""

    def with_memory(self, memory_bytes: int, memory_from: str, source: str, written: str) -> Gpu:
        """The same with memory from another source; nvidia-smi's total stays if it could be the same card's."""
        total_mib = self.nvidia_smi_mib
        reserved = None if total_mib is None else total_mib * MIB - memory_bytes
        is_like = reserved is not None and 0 <= reserved * 100 <= memory_bytes * _RESERVED_PERCENT  # percent
        return self._replace(
            memory_bytes=memory_bytes,
            memory_from=memory_from,
            source=source,
            written=written,
            nvidia_smi_mib=total_mib if is_like else None,
            seen_mib=None,
            windows_mib=None,
            ecc=None,
            newer_macos_bytes=None,
        )

    @property
    def is_unified(self) -> bool:
        """Whether its memory is also the CPU's."""
        return self.vendor == APPLE or "unified" in self.kind

    @property
    def generation(self) -> str:
        """NVIDIA's name of its architecture, or its kind."""
        capability = self.compute_capability
        if capability is None:
            return self.architecture
        return _ARCHITECTURES.get(capability) or _GENERATIONS.get(capability[0], "")

    def remarks(self) -> tuple[str, ...]:
        """Which memory figure is used, if another would change an answer by a percent or more."""
        found = [self._which_figure(), self._other_figures(), self.caveat]
        return tuple(f"memory of {self.name}: {words}" for words in found if words)

    def _which_figure(self) -> str:
        if self.memory_from in (GIVEN, MEASURED):
            return self.source if self.written.startswith(self.name) else ""  # others are named by their memory
        return _IN_WORDS.get(self.memory_from, "")

    def _other_figures(self) -> str:
        if self.newer_macos_bytes is not None:
            return (
                f"assuming older macOS's limit; newer macOS allows {both_units(self.newer_macos_bytes)}, and "
                "iogpu.wired_limit_mb sets any other"
            )
        if self.vendor == APPLE and self.memory_from == MACOS_RULE:
            return f"{self.source}; newer macOS allows more, and iogpu.wired_limit_mb sets any other"
        others = [f"other drivers report {low:,} to {high:,} MiB" for low, high in self._spread()]
        if self.windows_mib is not None and self._is_far(self.windows_mib * MIB):
            others.append(f"Windows reports {self.windows_mib:,} MiB")
        if self.ecc is not None:
            others.append(f"nvidia-smi reports {self.ecc[1]:,} MiB with ECC {self.ecc[0]}")
        if not others:
            return ""
        return f"{self.memory_bytes // MIB:,} MiB assumed; {', '.join(others)}"

    def _spread(self) -> tuple[tuple[int, int], ...]:
        """Least and most of other drivers, if either differs much."""
        if self.seen_mib is None or not any(self._is_far(mib * MIB) for mib in self.seen_mib):
            return ()
        return (self.seen_mib,)

    def _is_far(self, other_bytes: int) -> bool:
        return abs(other_bytes - self.memory_bytes) * 100 >= self.memory_bytes * _SPREAD_PERCENT  # percent
