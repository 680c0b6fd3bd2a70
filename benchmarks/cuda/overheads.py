"""What CUDA takes beside tensors: its context, the libraries as they are first used, NCCL, and the allocator's rest.

After each first use: how much the device's free memory fell (`driver_bytes`), and of that what torch's allocator has
for tensors that are there (`allocated_bytes`) and in segments (`reserved_bytes`). One process, in this order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from _step import Step
from about import by_driver
from torch import distributed
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import conv1d, scaled_dot_product_attention

MIB = 2**20


def first_uses(device: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Names of libraries and kernels, and their first use; nothing that they make stays."""
    rows = torch.randn(256, 256, device=device)
    half = rows.bfloat16()
    heads = half.view(1, 8, 32, 256)[..., :128].contiguous()

    def fused(*backends: SDPBackend) -> Callable[[], object]:
        def attend() -> object:
            with sdpa_kernel(list(backends)):
                return scaled_dot_product_attention(heads, heads, heads)

        return attend

    yield "cuBLAS, bf16 product", lambda: half @ half
    yield "cuBLAS, fp32 product", lambda: rows @ rows
    yield "cuBLAS, batched product", lambda: half.view(4, 64, 256) @ half.view(4, 64, 256).mT
    yield "cuBLASLt, product with bias", lambda: torch.addmm(half[0], half, half)
    yield "SDPA, math", fused(SDPBackend.MATH)
    yield "SDPA, flash", fused(SDPBackend.FLASH_ATTENTION)
    if device == "cuda":
        yield "SDPA, memory-efficient", fused(SDPBackend.EFFICIENT_ATTENTION)
    yield "convolution", lambda: conv1d(half.view(1, 256, 256), half[:, None, :4].contiguous(), groups=256)
    yield "random numbers, softmax, sort, top-k", lambda: torch.rand_like(rows).softmax(-1).sort().values.topk(8)
    yield "fp8", lambda: half.to(torch.float8_e4m3fn).to(torch.bfloat16)


def nccl(device: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """A group of one rank, and its first collective."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "RANK": "0", "WORLD_SIZE": "1"}
    backend = "nccl" if device == "cuda" else "gloo"
    yield f"{backend}, process group", lambda: distributed.init_process_group(backend)
    number = torch.ones(1, device=device)
    yield f"{backend}, first collective", lambda: distributed.all_reduce(number)


class Memory:
    """Free memory of the device and the allocator's figures, as they change."""

    def __init__(self, step: Step, found: list[dict[str, Any]]) -> None:
        self.step, self.found = step, found
        self.before = self.now()

    def now(self) -> dict[str, int]:
        """Figures of the driver and the allocator."""
        self.step.synchronised()
        if self.step.device != "cuda":
            return {"driver_bytes": 0, "allocated_bytes": 0, "reserved_bytes": 0}
        free, total = torch.cuda.mem_get_info()
        held = {"allocated_bytes": torch.cuda.memory_allocated(), "reserved_bytes": torch.cuda.memory_reserved()}
        return {"driver_bytes": total - free, **held}

    def after(self, what: str) -> None:
        """Writes what has changed since."""
        now = self.now()
        self.found.append({"what": what, **{name: now[name] - self.before[name] for name in now}})
        self.before = now
        self.step.write(self.found)


def main() -> None:
    step = Step.asked(__file__, __doc__)
    found: list[dict[str, Any]] = []
    if step.device == "cuda":
        used = int(by_driver()["memory.used"]) * MIB
        torch.cuda.init()
        free, total = torch.cuda.mem_get_info()
        context = {"what": "CUDA context", "driver_bytes": total - free - used, "used_before_bytes": used}
        found.append({**context, "allocated_bytes": 0, "reserved_bytes": 0})
    memory = Memory(step, found)
    kept = [torch.zeros(1, device=step.device)]
    memory.after("first tensor, of 4 bytes")
    kept.append(torch.zeros(8 * MIB, dtype=torch.uint8, device=step.device))
    memory.after("a tensor of 8 MiB")
    if step.device == "cuda":
        kept.append(torch.zeros(8 * MIB + 1, dtype=torch.uint8, device=step.device))
        memory.after("a tensor of 8 MiB and a byte")
    uses = list(first_uses(step.device))
    memory.after("inputs of what follows")
    for what, use in (*uses, *nccl(step.device)):
        use()
        memory.after(what)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
