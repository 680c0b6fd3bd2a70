"""Measures what ranks of vLLM (0.33) keep for LoRA adapters, with its own classes on a simulated GPU.

    vllm/bin/python tools/measure_vllm_lora_ranks.py tests/data/lora.jsonl new.jsonl

The environment is that of measure_vllm.py. Rows are those of measure_vllm_lora.py; "ranks" is measured again: bytes by
layout, such as {"tp=2": 4096, "tp=2,ep=2": 8192}, null if the classes need something that is not simulated.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure_vllm import GPUS, connect, play
from played_gpu import in_a_child

LAYOUTS = ("tp=2", "tp=4", "tp=2,ep=2")


def measured(row: dict[str, Any], layout: str) -> int | None:
    """Bytes of the stacked A and B of all layers of a rank, made on meta."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.lora.model_manager import create_lora_manager
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    degrees = {name: int(number) for name, _, number in (part.partition("=") for part in layout.split(","))}
    slots = {"max_loras": row["max_loras"], "max_lora_rank": row["max_lora_rank"], "max_cpu_loras": row["max_loras"]}
    ranks = {"tensor_parallel_size": degrees["tp"], "enable_expert_parallel": "ep" in degrees}
    settings = {"load_format": "dummy", "max_model_len": 512, "moe_backend": "triton", "enable_lora": True}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(row["config"]), "utf-8")
        given = EngineArgs(model=folder, skip_tokenizer_init=True, **settings, **slots, **ranks)
        config = given.create_engine_config()
    with set_current_vllm_config(config):
        connect(config, 0)
        with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
            model = initialize_model(config)
            for layer in model.modules():
                method = getattr(layer, "quant_method", None)
                if "MoE" in type(method).__name__:
                    method.process_weights_after_loading(layer)
            of_batch = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "vocab_size": row["config"]["vocab_size"]}
            manager = create_lora_manager(
                model, lora_config=config.lora_config, vllm_config=config, device=torch.device("meta"), **of_batch
            )
    tensors = {
        id(tensor): tensor.numel() * tensor.element_size()
        for layer in manager.model.modules()
        for name, value in vars(layer).items()
        if name.endswith(("a_stacked", "b_stacked"))
        for tensor in (value if isinstance(value, tuple | list) else (value,))
        if tensor._base is None  # those of experts are views of one
    }
    return sum(tensors.values())


def or_none(row: dict[str, Any], layout: str) -> int | None:
    """The same, None where it cannot be made."""
    try:
        return measured(row, layout)
    except Exception as error:  # whatever is not played
        print(row["config"]["model_type"], layout, type(error).__name__, str(error)[:90], file=sys.stderr)
        return None


def main(old: str, new: str) -> None:
    """Writes the rows of `old` with what ranks keep."""
    play(next(iter(GPUS)))
    from vllm.engine.arg_utils import EngineArgs  # noqa: F401  # imported once, for every child

    with Path(new).open("w", encoding="utf-8") as out:
        for line in Path(old).read_text("utf-8").splitlines():
            row = json.loads(line)
            layouts = [name for name in LAYOUTS if "ep" not in name or any(t[0] == "experts" for t in row["tensors"])]
            row["ranks"] = {
                name: in_a_child(lambda row=row, name=name: {"bytes": or_none(row, name)}).get("bytes")
                for name in layouts
            }
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
