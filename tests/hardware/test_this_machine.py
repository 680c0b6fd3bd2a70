"""`--gpu auto`: what nvidia-smi or macOS says, by programs that are put on the PATH here."""

from __future__ import annotations

import pytest

import kvcalc
from kvcalc.hardware import gpu_named
from kvcalc.units import GIB, MIB


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a shell script on the PATH, before everything but the shell's own programs."""

    def put(name: str, script: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    return put


def nvidia_smi(*lines: str) -> str:
    return "\n".join(f"echo '{line}'" for line in lines)


def test_cuda_has_the_total_less_what_is_reserved(program):
    program(
        "nvidia-smi", nvidia_smi("NVIDIA H100 80GB HBM3, 81559, 479, 9.0", "NVIDIA H100 80GB HBM3, 81559, 479, 9.0")
    )
    gpu = gpu_named("auto")
    assert (gpu.name, gpu.memory_bytes, gpu.compute_capability) == ("h100-80gb", 81080 * MIB, (9, 0))
    assert gpu.source == "nvidia-smi on this machine: 81,559 MiB minus 479 MiB reserved"
    again = gpu_named(gpu.written)
    assert (again.memory_bytes, again.nvidia_smi_mib) == (gpu.memory_bytes, 81559)


@pytest.mark.parametrize(
    ("line", "name", "mib"),
    [
        ("NVIDIA GeForce RTX 3080, 12288, 171, 8.6", "rtx-3080-12gb", 12117),
        ("NVIDIA GeForce RTX 4090, 49140, 500, 8.9", "rtx-4090", 48640),
        ("NVIDIA GH200 480GB, 97871, 600, 9.0", "sm_90", 97271),
        ("NVIDIA GeForce GTX 1080 Ti, 11264, 90, 6.1", "sm_61", 11174),
        ("NVIDIA L4, 23034, [N/A], 8.9", "l4", 23034),
    ],
)
def test_memory_is_this_machines_whatever_the_name_says(program, line, name, mib):
    program("nvidia-smi", nvidia_smi(line))
    gpu = gpu_named("AUTO")
    assert (gpu.name, gpu.memory_bytes) == (name, mib * MIB)


def test_one_with_unified_memory_is_as_the_catalogue_has_it(program):
    program("nvidia-smi", nvidia_smi("NVIDIA GB10, [N/A], [N/A], 12.1"))
    assert gpu_named("auto") == gpu_named("gb10")


def test_drivers_of_before_reserved_memory_are_asked_for_less(program):
    program("nvidia-smi", 'case "$1" in *reserved*) exit 2;; esac\necho "Tesla T4, 15109"')
    assert gpu_named("auto").memory_bytes == 15109 * MIB


APPLE = 'case "$3" in "") case "$2" in *wired*) echo {wired};; esac;; *) echo {memory}; echo "Apple M3 Max";; esac'


@pytest.mark.parametrize(("wired", "memory_bytes"), [(0, 48 * GIB), (57344, 57344 * MIB)])
def test_macos_has_a_limit_that_may_be_set(program, wired, memory_bytes):
    program("sysctl", APPLE.format(memory=64 * GIB, wired=wired))
    gpu = gpu_named("auto")
    assert (gpu.name, gpu.memory_bytes) == ("m3-max-64gb", memory_bytes)


def test_a_machine_with_neither_is_told_in_a_line(program, cli):
    with pytest.raises(kvcalc.NotApplicableError, match="neither nvidia-smi nor Apple's sysctl"):
        gpu_named("auto")
    outcome = cli("fit -p llama3-8b --gpu auto --weights 16GB")
    assert outcome.code == 2
    assert outcome.stderr == (
        "--gpu: this machine has neither nvidia-smi nor Apple's sysctl\n"
        "help: name it: --gpu h100-80gb, or pass its memory: --memory 64GB\n"
    )


def test_a_sysctl_that_is_not_apples_does_not_count(program):
    program("sysctl", "exit 255")
    with pytest.raises(kvcalc.NotApplicableError, match="neither"):
        gpu_named("auto")


def test_an_nvidia_smi_that_fails_is_told(program):
    program("nvidia-smi", "echo No devices were found; exit 6")
    with pytest.raises(kvcalc.NotApplicableError, match="nvidia-smi on this machine lists no GPU"):
        gpu_named("auto")


def test_different_gpus_are_asked_back(program):
    program("nvidia-smi", nvidia_smi("NVIDIA L4, 23034, 556, 8.9", "Tesla T4, 15360, 250, 7.5"))
    with pytest.raises(kvcalc.InvalidValueError, match="several kinds of GPUs: NVIDIA L4, Tesla T4"):
        gpu_named("auto")


def test_fit_and_the_list_take_it(program, cli):
    program("nvidia-smi", nvidia_smi("NVIDIA H100 80GB HBM3, 81559, 479, 9.0"))
    fitted = cli("fit -p llama3-8b --gpu auto --weights 16GB -e vllm -t 8K")
    assert fitted.code == 0
    assert f"{81080 * MIB:,}" in fitted.stdout
    assert "nvidia-smi on this machine" in " ".join(fitted.stdout.split())
    assert "81,559 MiB minus 479 MiB reserved" in " ".join(cli("gpus auto").stdout.split())
