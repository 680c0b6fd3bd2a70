"""The list of devices, and everything known about one of them."""

from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.hardware.gpu import APPLE, Gpu
from kvcalc.report.sheet import Cell, Column, Json, Sheet, Table
from kvcalc.report.versions import named
from kvcalc.units import both_units, count

_OF_CAPABILITIES = "developer.nvidia.com/cuda-gpus"


class AskedName(NamedTuple):
    """An ambiguous name: the device or its memory size is not clear. candidates: possible devices."""

    name: str
    why: str
    candidates: tuple[str, ...]


def facts_of(gpu: Gpu) -> dict[str, Json]:
    """Plain values of a device; units end their names."""
    capability = gpu.compute_capability
    return {
        **named("gpu"),
        "name": gpu.name,
        "aliases": list(gpu.aliases),
        "vendor": gpu.vendor,
        "kind": gpu.kind,
        "memory_bytes": gpu.memory_bytes,
        "memory_from": gpu.memory_from,
        "memory_source": gpu.source,
        "nvidia_smi_mib": gpu.nvidia_smi_mib,
        "seen_mib": None if gpu.seen_mib is None else list(gpu.seen_mib),
        "windows_mib": gpu.windows_mib,
        "ecc": None if gpu.ecc is None else {gpu.ecc[0]: gpu.ecc[1]},
        "newer_macos_bytes": gpu.newer_macos_bytes,
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "architecture": gpu.generation,
        "bandwidth_mb_s": gpu.bandwidth_mb_s,
        "interconnect": gpu.interconnect,
        "bf16_gflops": gpu.bf16_gflops,
        "fp8_gflops": gpu.fp8_gflops,
        "specs_source": gpu.specs_source,
        "remarks": list(gpu.remarks()),
        "note": gpu.note,
    }


class GpuList(NamedTuple):
    """Devices, and ambiguous names."""

    gpus: tuple[Gpu, ...]
    asked: tuple[AskedName, ...] = ()

    def to_dict(self) -> list[Json]:
        """Plain values of each device."""
        return [facts_of(gpu) for gpu in self.gpus]

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each."""
        columns = (
            Column("device"),
            Column("memory, bytes", "bytes"),
            Column("GiB", "gibibytes", key="memory_bytes"),
            Column("memory from"),
            Column("MB/s", "count", wide=True, key="bandwidth_mb_s"),
            Column("architecture"),
            Column("vendor", wide=True),
            Column("kind", wide=True),
        )
        rows = tuple(_row(gpu) for gpu in self.gpus)
        note = "`kvcalc gpus NAME` shows one with its sources; for unlisted devices pass the memory: --memory 64GB"
        devices = Sheet("Devices and the memory that their drivers report", columns, rows, notes=(note,))
        return (devices, self._names()) if self.asked else (devices,)

    def _names(self) -> Sheet:
        columns = (Column("name"), Column("why it is ambiguous"), Column("may be"))
        rows = tuple((each.name, each.why, ", ".join(each.candidates)) for each in self.asked)
        return Sheet("Ambiguous names", columns, rows)


class GpuPage(NamedTuple):
    """Everything known about one device."""

    gpu: Gpu

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return facts_of(self.gpu)

    def table(self) -> Table:
        """One row, by the names that JSON has."""
        facts = facts_of(self.gpu).items()
        return Table.of([{n: v for n, v in facts if n != "schema" and isinstance(v, str | int | float | None)}])

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each fact, with its source."""
        gpu = self.gpu
        columns = (Column("fact"), Column("value"), Column("source", once=True))
        title = f"{gpu.name}: {' '.join(filter(None, (gpu.vendor, gpu.kind)))}"
        notes = tuple(filter(None, (*gpu.remarks(), gpu.note)))
        return (Sheet(title, columns, tuple(self._facts()), notes=notes),)

    def _facts(self) -> Iterator[tuple[str, ...]]:
        gpu = self.gpu
        yield "memory", both_units(gpu.memory_bytes), gpu.source
        yield "memory from", gpu.memory_from, ""
        yield from _if_known("nvidia-smi's total", gpu.nvidia_smi_mib and f"{count(gpu.nvidia_smi_mib)} MiB")
        if gpu.seen_mib is not None:
            yield "seen on Linux", f"{count(gpu.seen_mib[0])} to {count(gpu.seen_mib[1])} MiB", ""
        yield from _if_known("seen on Windows", gpu.windows_mib and f"{count(gpu.windows_mib)} MiB")
        if gpu.ecc is not None:
            yield f"nvidia-smi's total, ECC {gpu.ecc[0]}", f"{count(gpu.ecc[1])} MiB", ""
        if gpu.vendor == APPLE and gpu.newer_macos_bytes is not None:
            yield "newer macOS", both_units(gpu.newer_macos_bytes), ""
        if gpu.compute_capability is not None:
            number = ".".join(map(str, gpu.compute_capability))
            yield "compute capability", f"{number} ({gpu.generation})", _OF_CAPABILITIES
        else:
            yield from _if_known("architecture", gpu.architecture)
        yield from self._specs()
        yield from _if_known("also called", ", ".join(gpu.aliases))

    def _specs(self) -> Iterator[tuple[str, ...]]:
        gpu = self.gpu
        source = gpu.specs_source
        yield from _if_known("bandwidth", gpu.bandwidth_mb_s and f"{_thousands(gpu.bandwidth_mb_s)} GB/s", source)
        yield from _if_known("interconnect", gpu.interconnect, source)
        yield from _if_known("bf16, dense", gpu.bf16_gflops and f"{_thousands(gpu.bf16_gflops)} TFLOPs", source)
        yield from _if_known("fp8, dense", gpu.fp8_gflops and f"{_thousands(gpu.fp8_gflops)} TFLOPs", source)


def _row(gpu: Gpu) -> tuple[Cell, ...]:
    capability = gpu.compute_capability
    number = "" if capability is None else f" {capability[0]}.{capability[1]}"
    memory: tuple[Cell, ...] = (gpu.memory_bytes, gpu.memory_bytes, gpu.memory_from)
    return (gpu.name, *memory, gpu.bandwidth_mb_s, f"{gpu.generation}{number}", gpu.vendor, gpu.kind)


def _if_known(fact: str, value: str | int | None, source: str = "") -> Iterator[tuple[str, ...]]:
    if value:
        yield fact, str(value), source


def _thousands(number: int) -> str:
    """`4022800` as `4,022.8`: in thousands, exact."""
    whole, rest = divmod(number, 1000)  # a thousand
    return f"{count(whole)}.{rest:03}".rstrip("0").rstrip(".") if rest else count(whole)
