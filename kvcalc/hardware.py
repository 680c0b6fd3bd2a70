"""GPUs by name, with the memory that their driver reports and what their cores can do: `presets/gpus.yaml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from kvcalc.errors import InvalidFileError, NotApplicableError, UnknownNameError
from kvcalc.registry import plain_yaml

GPUS_FILE = "gpus.yaml"
CPU = "cpu"


class Gpu(NamedTuple):
    """A GPU by the memory that its driver reports, in bytes, not by the number on its box.

    compute_capability: NVIDIA's (major, minor); None for others. nvidia_smi_mib: total that nvidia-smi reports, with
    what the driver reserves for itself.
    """

    name: str
    memory_bytes: int
    source: str
    compute_capability: tuple[int, int] | None = None
    nvidia_smi_mib: int | None = None


class _Entry(TypedDict):
    """A GPU as the file has it."""

    memory_bytes: int
    source: str
    aliases: NotRequired[list[str]]
    compute_capability: NotRequired[list[int]]
    nvidia_smi_mib: NotRequired[int]


def presets_folder() -> Path:
    """Folder of the shipped presets: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "presets"
    return inside if inside.is_dir() else package.parent / "presets"


@cache
def gpus() -> dict[str, Gpu]:
    """Every GPU by name and by alias, in lower case."""
    path = presets_folder() / GPUS_FILE
    plain = plain_yaml.parse(path.read_text("utf-8"))
    if plain is None:
        raise InvalidFileError("is not plain YAML", where=str(path), help="write each GPU as the others are written")
    found = {}
    for name, entry in plain[0].items():
        for spelling in (name, *entry.get("aliases", ())):
            found[spelling.lower()] = _gpu(name, entry)
    return found


def gpu_named(name: str) -> Gpu:
    """GPU of that name or alias, in any case.

    Raises UnknownNameError with the nearest, NotApplicableError for a CPU, whose name says nothing of its memory.
    """
    gpu = gpus().get(str(name).lower())
    if gpu is None and str(name).lower().partition("-")[0] == CPU:
        raise NotApplicableError(
            f"the memory of a CPU is not known by a name ({name})",
            help="say what the cache may take: available_bytes in kvcalc.fit, or a budget in a plan of kvcalc check",
        )
    if gpu is None:
        raise UnknownNameError.among("GPU", str(name), gpus(), see=f"presets/{GPUS_FILE} lists them all")
    return gpu


def _gpu(name: str, entry: _Entry) -> Gpu:
    capability = entry.get("compute_capability")
    numbers = (capability[0], capability[1]) if capability else None
    return Gpu(name, entry["memory_bytes"], entry["source"], numbers, entry.get("nvidia_smi_mib"))
