"""`presets/gpus.yaml`: every figure is the one that was found, and is found with no more than its entry being read."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

import kvcalc
from kvcalc.hardware import GPUS_FILE, catalogue, gpu_named, gpus, presets_folder
from kvcalc.hardware.gpu import DATA_SHEET, DRIVER_BYTES, DRIVER_MIB, MACOS, MACOS_RULE, NVIDIA, NVIDIA_SMI
from kvcalc.units import GIB, MIB

TEXT = (presets_folder() / GPUS_FILE).read_text("utf-8")
WHOLE = yaml.safe_load(TEXT)
with Path(__file__).parents[1].joinpath("data", "devices.tsv").open(encoding="utf-8", newline="") as lines:
    FACTS = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
"""What was found of devices, apart from the catalogue. Where memory_bytes is empty no driver's figure was found."""


def test_there_are_at_least_seventy():
    assert len(gpus()) >= 70
    assert kvcalc.gpus() is gpus()


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact["device"])
def test_memory_is_the_figure_that_was_found(fact):
    gpu = gpu_named(fact["device"])
    assert gpu.memory_from == fact["memory_from"]
    if fact["memory_bytes"]:
        assert gpu.memory_bytes == int(fact["memory_bytes"])


@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact["macos_mb"] or fact["newer_macos_mb"]], ids=str)
def test_apples_limits_print_as_they_were_printed(fact):
    gpu = gpu_named(fact["device"])
    if fact["macos_mb"]:
        assert f"{gpu.memory_bytes / 10**6:.2f}" == fact["macos_mb"]
    if fact["newer_macos_mb"]:
        assert f"{gpu.newer_macos_bytes / 10**6:.2f}" == fact["newer_macos_mb"]


APPLES = [name for name in WHOLE if name.startswith("apple-")]
NEWER = {16: "0.74", 18: "0.74", 24: "0.74", 32: "0.78", 36: "0.78", 48: "0.78", 64: "0.81", 128: "0.84"}


@pytest.mark.parametrize("name", APPLES)
def test_apples_limits_are_a_step_function_in_whole_pages(name):
    gib = int(name.removeprefix("apple-").removesuffix("gb"))
    page = 16384
    older = gib * GIB * (Fraction(2, 3) if gib <= 32 else Fraction(3, 4))
    assert WHOLE[name]["memory_bytes"] == -(-older // page) * page
    if gib in NEWER:
        assert WHOLE[name]["newer_macos_bytes"] == -(-gib * GIB * Fraction(NEWER[gib]) // page) * page
    assert (gib in NEWER) == ("newer_macos_bytes" in WHOLE[name])


@pytest.mark.parametrize("gpu", gpus(), ids=lambda gpu: gpu.name)
def test_a_device_says_where_its_figures_are_from(gpu):
    assert gpu.source and gpu.vendor and gpu.kind
    assert gpu.memory_from in (DRIVER_BYTES, DRIVER_MIB, NVIDIA_SMI, DATA_SHEET, MACOS, MACOS_RULE)
    assert gpu.memory_bytes > 4 * GIB
    assert (gpu.compute_capability is not None) == (gpu.vendor == NVIDIA)
    assert gpu.generation
    specs = (gpu.bandwidth_mb_s, gpu.interconnect, gpu.bf16_gflops, gpu.fp8_gflops)
    assert gpu.specs_source or not any(specs)


@pytest.mark.parametrize("gpu", gpus(), ids=lambda gpu: gpu.name)
def test_the_figures_of_a_device_agree(gpu):
    if gpu.nvidia_smi_mib is not None and gpu.memory_from != NVIDIA_SMI:
        assert 0.96 * gpu.nvidia_smi_mib * MIB <= gpu.memory_bytes <= gpu.nvidia_smi_mib * MIB
    if gpu.memory_from == NVIDIA_SMI:
        assert gpu.memory_bytes == gpu.nvidia_smi_mib * MIB
    if gpu.seen_mib is not None:
        low, high = gpu.seen_mib
        assert low <= gpu.memory_bytes // MIB <= high
    if gpu.windows_mib is not None:
        assert gpu.memory_bytes // MIB - 1 <= gpu.windows_mib <= 1.04 * gpu.memory_bytes / MIB
    if gpu.newer_macos_bytes is not None:
        assert gpu.memory_bytes < gpu.newer_macos_bytes


def test_b300_is_what_cuda_reports():
    gpu = gpu_named("b300")
    assert (gpu.memory_bytes, gpu.nvidia_smi_mib) == (287_428_771_840, 275_040)


def test_entries_are_cut_as_yaml_reads_them():
    assert list(WHOLE) == [naming.name for naming in catalogue.namings()]
    assert {name: catalogue.entry(name) for name in WHOLE} == WHOLE


@pytest.mark.parametrize("naming", catalogue.namings(), ids=lambda naming: naming.name)
def test_names_are_read_as_yaml_reads_them(naming):
    entry = WHOLE[naming.name]
    assert naming.model == entry.get("model", naming.name)
    assert naming.memory_of == entry.get("memory_of", "")
    for field in ("aliases", "qualifiers", "candidates"):
        assert list(getattr(naming, field)) == entry.get(field, [])


def test_only_known_fields_are_written():
    assert {field for entry in WHOLE.values() for field in entry} <= set(catalogue.Entry.__annotations__)


def test_an_entry_that_is_not_plain_is_refused():
    with pytest.raises(kvcalc.InvalidFileError, match=r"gpus\.yaml: the entry h1 is not plain YAML"):
        catalogue._parsed("h1", "  memory_bytes: >\n    1\n")
