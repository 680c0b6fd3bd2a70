"""Asks SGLang's own LoRAMemoryPool what it allocates for adapters, and prints that as rows.

Needs the environment of `tools/measure_sglang.py`:

    python tools/measure_sglang_lora.py tests/data/lora.jsonl > rows.jsonl

A row of the input is one with a "config"; the output has a line for each of the types, ranks and modules below. The
base model is played by its config alone, from which SGLang takes the widths of modules (get_default_hidden_dim); ranks
have even parts, and lm_head is whole. Buffers hold shapes and no memory (device meta).
"""

from __future__ import annotations

import argparse
import json
import types
from pathlib import Path
from typing import Any

from played_gpu import play_packages

TYPES = ("llama", "mistral", "qwen2", "qwen3", "granite", "phi3")
RANKS = (1, 2, 4)
MODULES = (
    ("q_proj", "v_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ("qkv_proj", "down_proj", "embed_tokens"),
    ("all",),
)
ADAPTERS, RANK = 3, 16
_ALL = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj", "embed_tokens", "lm_head"}
"""What `all` is for a decoder of these types (auto_detect_lora_target_modules, EMBEDDING_NAMES)."""


def allocated(config: dict[str, Any], modules: tuple[str, ...], tp: int) -> int:
    """Bytes of all buffers on the first of tp ranks."""
    import torch
    from sglang.srt.lora import mem_pool, utils
    from transformers import AutoConfig

    settings = dict(config)
    own = AutoConfig.for_model(settings.pop("model_type"), **settings)
    base = torch.nn.Linear(1, 1, device="meta")
    base.config = own
    mem_pool.get_parallel = lambda: types.SimpleNamespace(
        **{"tp_size": tp, "tp_rank": 0, "attn_tp_size": tp, "moe_ep_size": 1, "moe_ep_rank": 0},
        **{"moe_tp_size": tp, "moe_tp_rank": 0},
    )
    mem_pool.LoRAMemoryPool._has_moe_module = staticmethod(lambda _: False)
    targets = set(_ALL) if modules == ("all",) else utils.get_normalized_target_modules(modules)
    pool = mem_pool.LoRAMemoryPool(own, ADAPTERS, torch.bfloat16, RANK, targets, base, "lru", 0)
    lists = (*pool.A_buffer.values(), *pool.B_buffer.values())
    ones = (pool.embedding_A_buffer, pool.embedding_B_buffer, pool.lm_head_A_buffer, pool.lm_head_B_buffer)
    tensors = [tensor for each in lists for tensor in each] + [tensor for each in ones for tensor in each.values()]
    return sum(tensor.nbytes for tensor in tensors)


def main() -> None:
    """Prints a row for each config, set of modules and number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    configs = [json.loads(line)["config"] for line in parser.parse_args().rows.read_text().splitlines()]
    import functorch.compile  # noqa: F401  # before kernels are played
    import torch.utils.flop_counter  # noqa: F401
    from transformers import AutoConfig  # noqa: F401

    play_packages(
        ("torchvision", "sgl_kernel", "flashinfer", "flash_attn", "deep_gemm", "triton", "xgrammar", "tilelang")
    )
    for config in configs:
        if config["model_type"] not in TYPES:
            continue
        for tp in RANKS:
            for modules in MODULES:
                row = {"model_type": config["model_type"], "config": config, "tp": tp, "target_modules": modules}
                sizes = {"max_loras_per_batch": ADAPTERS, "max_lora_rank": RANK}
                print(json.dumps(row | sizes | {"bytes": allocated(config, modules, tp)}), flush=True)


if __name__ == "__main__":
    main()
