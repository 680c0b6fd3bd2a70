"""The device: its name, driver, memory as each interface reports it, and what it copies and multiplies in a second."""

from __future__ import annotations

import platform
import subprocess
from typing import Any

import torch
from _step import Step

QUERY = "name,driver_version,memory.total,memory.reserved,memory.used,ecc.mode.current,mig.mode.current"
COPIED_BYTES, MATRIX = 2**31, 8192


def by_driver() -> dict[str, str]:
    """What nvidia-smi says, in MiB."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return dict(zip(QUERY.split(","), (value.strip() for value in line.split(",")), strict=True))


def bandwidth(step: Step) -> float:
    """Bytes a second that a copy moves, read and written."""
    size = 2**24 if step.rehearses else COPIED_BYTES
    source = torch.empty(size, dtype=torch.uint8, device=step.device).fill_(1)
    target = torch.empty_like(source)
    return 2 * size / step.seconds(lambda: target.copy_(source), runs=20)


def product_rate(step: Step) -> float:
    """Operations a second of a large bf16 product."""
    size = 256 if step.rehearses else MATRIX
    one, other = (torch.randn(size, size, device=step.device).bfloat16() for _ in range(2))
    return 2 * size**3 / step.seconds(lambda: one @ other, runs=20)


def main() -> None:
    step = Step.asked(__file__, __doc__)
    found: dict[str, Any] = {"device": "cpu", "torch": torch.__version__, "python": platform.python_version()}
    if step.device == "cuda":
        found |= {"nvidia_smi_mib": by_driver()}  # first, as long as nothing runs
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name,
            "cuda": torch.version.cuda,
            "compute_capability": [properties.major, properties.minor],
            "total_memory_bytes": properties.total_memory,
            "mem_get_info_total_bytes": torch.cuda.mem_get_info()[1],
            "l2_bytes": properties.L2_cache_size,
            "multiprocessors": properties.multi_processor_count,
        }
    step.write(found)
    found["copy_bytes_per_second"] = round(bandwidth(step))
    found["bf16_operations_per_second"] = round(product_rate(step))
    step.write(found)


if __name__ == "__main__":
    main()
