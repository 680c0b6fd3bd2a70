"""`presets/gpus.yaml`, split into entries that are parsed on demand: the whole file takes 20 ms.

The names of an entry are read by a separate pattern, since every lookup needs all of them.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple, NotRequired, TypedDict

from kvcalc.errors import InvalidFileError
from kvcalc.hardware import GPUS_FILE, presets_folder
from kvcalc.hardware.gpu import Gpu
from kvcalc.registry import plain_yaml

_SECTION = r"(?m)^([A-Za-z][\w-]*):\n((?: .*\n)+)"
_NAMING = r"(?m)^ {2}(model|aliases|qualifiers|memory_of|candidates): \[?([^\]\n]*)"


class Entry(TypedDict):
    """A device, or an ambiguous name, as in the file; the file's header describes each field."""

    model: NotRequired[str]
    aliases: NotRequired[list[str]]
    qualifiers: NotRequired[list[str]]
    memory_of: NotRequired[str]
    asks: NotRequired[str]
    candidates: NotRequired[list[str]]
    vendor: NotRequired[str]
    kind: NotRequired[str]
    memory_bytes: NotRequired[int]
    memory_from: NotRequired[str]
    memory_source: NotRequired[str]
    newer_macos_bytes: NotRequired[int]
    nvidia_smi_mib: NotRequired[int]
    seen_mib: NotRequired[list[int]]
    windows_mib: NotRequired[int]
    ecc_on_mib: NotRequired[int]
    ecc_off_mib: NotRequired[int]
    compute_capability: NotRequired[list[int]]
    architecture: NotRequired[str]
    bandwidth_mb_s: NotRequired[int]
    interconnect: NotRequired[str]
    bf16_gflops: NotRequired[int]
    fp8_gflops: NotRequired[int]
    specs_source: NotRequired[str]
    caveat: NotRequired[str]
    note: NotRequired[str]


class Naming(NamedTuple):
    """The names of an entry. model: that qualifiers may follow. memory_of: model with a chip's memory sizes."""

    name: str
    model: str
    aliases: tuple[str, ...]
    qualifiers: tuple[str, ...]
    memory_of: str
    candidates: tuple[str, ...]


@cache
def _sections() -> dict[str, str]:
    text = (presets_folder() / GPUS_FILE).read_text("utf-8")
    return {match[1]: match[2] for match in re.finditer(_SECTION, text)}


def is_device(name: str) -> bool:
    """Whether an entry of that name has a memory size."""
    return name in _sections() and "memory_bytes" in entry(name)


@cache
def entry(name: str) -> Entry:
    """The whole entry of that name."""
    return _parsed(name, _sections()[name])


@cache
def namings() -> tuple[Naming, ...]:
    """Names of each entry, in the order of the file."""
    return tuple(_naming(name, body) for name, body in _sections().items())


def _naming(name: str, body: str) -> Naming:
    said = {match[1]: tuple(word.strip('" ') for word in match[2].split(",")) for match in re.finditer(_NAMING, body)}
    return Naming(
        name,
        said.get("model", (name,))[0],
        said.get("aliases", ()),
        said.get("qualifiers", ()),
        said.get("memory_of", ("",))[0],
        said.get("candidates", ()),
    )


def _parsed(name: str, body: str) -> Entry:
    plain = plain_yaml.parse(f"{name}:\n{body}")
    if plain is None:
        raise InvalidFileError(
            f"the entry {name} is not plain YAML",
            where=str(presets_folder() / GPUS_FILE),
            help="write it like the others",
        )
    values: dict[str, Any] = plain[0]
    read: Entry = values[name]
    return read


def gpu_of(name: str, facts: Entry) -> Gpu:
    """The device of an entry; its memory is 0 if unknown, and asks is then its note."""
    capability, seen = facts.get("compute_capability"), facts.get("seen_mib")
    return Gpu(
        name,
        facts.get("memory_bytes", 0),
        facts.get("memory_source", ""),
        (capability[0], capability[1]) if capability else None,
        vendor=facts.get("vendor", ""),
        kind=facts.get("kind", ""),
        memory_from=facts.get("memory_from", ""),
        aliases=tuple(facts.get("aliases", ())),
        architecture=facts.get("architecture", ""),
        nvidia_smi_mib=facts.get("nvidia_smi_mib"),
        seen_mib=(seen[0], seen[1]) if seen else None,
        windows_mib=facts.get("windows_mib"),
        ecc=_ecc(facts),
        newer_macos_bytes=facts.get("newer_macos_bytes"),
        bandwidth_mb_s=facts.get("bandwidth_mb_s"),
        interconnect=facts.get("interconnect", ""),
        bf16_gflops=facts.get("bf16_gflops"),
        fp8_gflops=facts.get("fp8_gflops"),
        specs_source=facts.get("specs_source", ""),
        caveat=facts.get("caveat", ""),
        note=facts.get("asks", "") or facts.get("note", ""),
        written=name,
    )


def _ecc(facts: Entry) -> tuple[str, int] | None:
    """nvidia-smi's total with ECC switched the other way."""
    if "ecc_on_mib" in facts:
        return "on", facts["ecc_on_mib"]
    return ("off", facts["ecc_off_mib"]) if "ecc_off_mib" in facts else None
