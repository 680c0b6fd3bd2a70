"""Which device a name means: as people type it, as drivers print it, as Kubernetes labels it; and what is asked back."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.hardware import gpu_named, gpus
from kvcalc.hardware.catalogue import namings
from kvcalc.hardware.naming import asked_back, compacted, spellings
from kvcalc.hardware.written import with_memory
from kvcalc.units import GB, GIB

with Path(__file__).parents[1].joinpath("data", "devices.tsv").open(encoding="utf-8", newline="") as lines:
    FOUND = [
        (name, row["device"])
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        for name in row["names"].split(";")
        if name
    ]
"""Names of drivers, Kubernetes labels, and names as people type them, each of one device."""
TYPED = {
    "4090": "rtx-4090",
    "rtx4090": "rtx-4090",
    "RTX 4090": "rtx-4090",
    "GeForce RTX 4090 24GB": "rtx-4090",
    "H100-SXM": "h100-80gb",
    "h100": "h100-80gb",
    "H100 SXM5 80 GB": "h100-80gb",
    "h100_80gb_hbm3": "h100-80gb",
    "H100PCIe": "h100-pcie",
    "NVIDIA-H100-80GB-HBM3": "h100-80gb",
    "NVIDIA-H100-80GB-HBM3-SHARED": "h100-80gb",
    "nvidia-h100-mega-80gb": "h100-80gb",
    "NVIDIA-Tesla-T4": "t4",
    "H200-SXM5": "h200",
    "nvidia-l4": "l4",
    "A100-80GB": "a100-80gb",
    "A100SXM480GB": "a100-80gb",
    "A100-SXM-40GB": "a100-40gb",
    "a100-sxm4-80g": "a100-80gb",
    "NVIDIA A100 80GB PCIe": "a100-80gb-pcie",
    "NVIDIA B300 SXM6 AC": "b300",
    "V100-PCIE-32GB": "v100-32gb",
    "RTX 3080 12GB": "rtx-3080-12gb",
    "4060 Ti 8GB": "rtx-4060-ti-8gb",
    "NVIDIA RTX PRO 5000 72GB Blackwell": "rtx-pro-5000-72gb",
    "NVIDIA RTX PRO 5000 Blackwell": "rtx-pro-5000-48gb",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "rtx-pro-6000-max-q",
    "Intel(R) Arc(TM) B580 Graphics": "arc-b580",
    "AMD Instinct MI300X OAM": "mi300x",
    "Radeon RX 7900 XTX": "rx-7900-xtx",
    "dgx spark": "gb10",
    "gh200-144gb": "gh200-144gb",
    "v5e": "tpu-v5e",
    "m3-max-64gb": "m3-max-64gb",
    "Apple M3 Max 64 GB": "m3-max-64gb",
    "M4 Pro 48GB": "m4-pro-48gb",
    "Apple M4 Max (128 GB)": "m4-max-128gb",
    "Jetson Orin Nano 8GB": "jetson-orin-8gb",
}
ASKED = [
    "a100",
    "A100-SXM",
    "a100-pcie",
    "nvidia-tesla-a100",
    "v100",
    "3080",
    "NVIDIA-GeForce-RTX-3080",
    "4060ti",
    "Orin",
    "jetson-orin",
    "gh200",
    "mi250x",
    "GH200-480GB",
    "NVIDIA-GH200-120GB",
    "rtx-pro-5000",
    "5060-Ti",
    "strix-halo",
    "8060s",
    "b100",
    "l20d",
    "AMD-Radeon-Graphics",
    "max1550",
    "M3-Max",
    "apple",
    "rtx-6000",
    "sm_90",
]


@pytest.mark.parametrize(("name", "device"), [*FOUND, *TYPED.items()])
def test_a_name_means_one_device(name, device):
    assert gpu_named(name).name == device


@pytest.mark.parametrize("name", ASKED)
def test_a_name_that_does_not_say_enough_is_asked_back(name):
    with pytest.raises(kvcalc.InvalidValueError, match=r"is ambiguous|the memory of .* is unknown"):
        gpu_named(name)


@given(
    st.sampled_from([(each.name, each) for each in gpus()]), st.sampled_from(["", "-", "_", " ", "  "]), st.booleans()
)
def test_case_and_separators_do_not_count(named, separator, upper):
    name, gpu = named
    spelled = separator.join(name.split("-"))
    assert gpu_named(spelled.upper() if upper else spelled) == gpu


def test_no_name_is_two_devices():
    """Neither whole names nor aliases collide, so that no order decides between two sizes."""
    whose: dict[str, str] = {}
    for naming in namings():
        for name in {compacted(each) for each in (naming.name, *naming.aliases)}:
            assert whose.setdefault(name, naming.name) == naming.name


def test_candidates_are_devices_or_ask_for_their_memory():
    names = {naming.name for naming in namings()}
    assert {name for naming in namings() for name in naming.candidates} <= names
    assert {why for _, why, _ in asked_back()}
    assert "a100" in {name for name, _, _ in asked_back()}


def test_what_completion_offers_is_known_or_asked_back():
    for name in spellings():
        try:
            gpu_named(name)
        except kvcalc.InvalidValueError as error:
            assert "is ambiguous" in error.what or "the memory of " in error.what


def test_a_mig_slice_has_the_memory_of_its_profile():
    gpu = gpu_named("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb")
    assert (gpu.name, gpu.memory_bytes, gpu.compute_capability) == ("a100-40gb-mig-1g.5gb", 5 * GB, (8, 0))
    assert gpu_named("NVIDIA H100 80GB HBM3 MIG 3g.40gb").memory_bytes == 40 * GB
    assert gpu_named("h100:3g.40gb") == gpu_named("h100:mig-3g.40gb") == gpu_named("h100-80gb-mig-3g.40gb")
    assert gpu_named("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED").name == "h100-80gb-mig-1g.10gb"
    assert gpu_named(gpu.written) == gpu
    assert "MIG profile" in gpu.remarks()[0]


def test_memory_is_given_for_a_device_or_for_any():
    given = gpu_named("rtx-4090@48GB")
    assert (given.name, given.memory_bytes, given.compute_capability) == ("rtx-4090", 48 * GB, (8, 9))
    assert given.remarks() == ("memory of rtx-4090: given as 48GB",)
    any_other = gpu_named("64GiB")
    assert (any_other.name, any_other.memory_bytes, any_other.vendor) == ("64GiB device", 64 * GIB, "")
    assert gpu_named("strix-halo@96GB").memory_bytes == 96 * GB
    generic = gpu_named("sm_103@200GiB")
    assert (generic.compute_capability, generic.memory_bytes) == ((10, 3), 200 * GIB)
    on_a_cpu = gpu_named("cpu-avx2@64GB")
    assert (on_a_cpu.name, on_a_cpu.memory_bytes) == ("cpu-avx2", 64 * GB)
    for gpu in (given, any_other, generic, on_a_cpu):
        assert gpu_named(gpu.written) == gpu


def test_names_and_memory_are_put_together():
    assert with_memory("4090", None) == "4090"
    assert with_memory("4090", "48GB") == "4090@48GB"
    assert with_memory(None, 64 * GIB) == f"{64 * GIB}B"
    assert with_memory("4090@24GB", "48GB") == "4090@48GB"


REFUSED = {
    "h300": "no GPU is called 'h300'",
    "": "no GPU is called ''",
    "4090 laptop": "no GPU is called '4090 laptop'",
    "4090 48gb": "'4090 48gb' has a memory size that is unknown for that GPU",
    "m3-max-65gb": "'m3-max-65gb' has a memory size that is unknown for that GPU",
    "MIG 1g.5gb": "'MIG 1g.5gb' is a slice of an unnamed GPU",
    "h100:9g.80gb": "'h100-80gb-mig-9g.80gb' is not a slice of h100-80gb",
    "a100-40gb:3g.80gb": "'a100-40gb-mig-3g.80gb' is not a slice of a100-40gb",
    "nvidia.com/mig-3g.40gb": "'nvidia.com/mig-3g.40gb' is a slice of an unnamed GPU",
    "3090+4090": "'3090+4090' names mixed GPUs",
    "cpu": "the memory of a CPU does not follow from its name (cpu)",
    "h100@much": "memory must be a number of bytes with its unit, not 'much'",
    "h100@0GB": "memory must be above 0",
    "\x1b[31m": "no GPU is called",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_device_is_refused(name):
    with pytest.raises(kvcalc.KvcalcError) as caught:
        gpu_named(name)
    assert REFUSED[name] in str(caught.value)
    assert caught.value.help


@given(
    st.text(max_size=40)
    | st.from_regex(r"(nvidia |rtx[- ])?[a-z]?\d{1,4}[a-z-]{0,4}(\d\dgb)?(@\d+GB)?", fullmatch=True)
)
def test_any_text_is_a_device_or_refused(text):
    try:
        gpu = gpu_named(text)
    except kvcalc.KvcalcError as error:
        assert error.help
    else:
        assert gpu.memory_bytes > 0
        assert gpu_named(gpu.written) == gpu


def test_a_size_that_is_not_known_names_those_that_are():
    with pytest.raises(kvcalc.KvcalcError) as caught:
        gpu_named("4090 48gb")
    assert caught.value.help == "write rtx-4090 (25.39 GB), or pass its memory: rtx-4090@48GB"


REMARKS = {
    "h100": "",
    "rtx-4090": "24,210 MiB assumed; Windows reports 24,564 MiB",
    "t4": "15,109 MiB assumed; other drivers report 14,912 to 15,110 MiB",
    "rtx-a6000": "48,676 MiB assumed; nvidia-smi reports 46,068 MiB with ECC on",
    "a2": "nvidia-smi's total; CUDA's own, 0.5 to 3% lower, is unknown",
    "h800": "from the data sheet; the driver's figure is unknown",
    "gb10": "unified with the CPU",
    "apple-64gb": "assuming older macOS's limit; newer macOS allows 55,662,788,608 bytes",
    "apple-96gb": "3/4 of the memory, the rule of older macOS for other sizes",
}


@pytest.mark.parametrize("name", REMARKS)
def test_a_device_says_which_figure_it_is_where_that_matters(name):
    remarks = "; ".join(gpu_named(name).remarks())
    assert REMARKS[name] in remarks
    assert bool(REMARKS[name]) == bool(remarks)
