"""Runs SGLang's own planning of its pools on a simulated GPU, and prints the result as rows.

Needs a separate environment with SGLang but without its kernels:

    pip install torch torchvision transformers==5.19.0 compressed-tensors openai mistral_common gguf numba msgspec \
        orjson pyzmq psutil pillow requests einops setproctitle prometheus-client IPython interegular pybase64 \
        partial_json_parser xxhash zstandard tiktoken sentencepiece scipy uvloop easydict llguidance blobfile \
        python-multipart uvicorn watchfiles datasets anthropic modelscope soundfile aiohttp fastapi distro
    pip install --no-deps sglang==0.5.23
    python tools/measure_sglang.py jobs.jsonl --gpu h100-80gb > rows.jsonl

A job is a line {"name", "config": a config.json or its path, "args": arguments of sglang serve, "stage", "window",
"draft": a config.json of another checkpoint, which drafts}, and a row is the job with SGLang's answer as "want", or its
refusal as "refused"; "draft_kv_bytes" are those of the draft's own worker. The window is that of the model's class
(get_attention_sliding_window_size), if it is not the config's less one: MiMo-V2's is the config's own.

Its arguments are resolved (ServerArgs.resolve_once) and its pools sized and built (KVCacheConfigurator.configure) by
its own classes, unchanged. Simulated: torch.cuda answers as one GPU, tensors made on it hold shapes and no memory
(device meta), packages of kernels are empty modules, ranks are alone. The model is a range of layers, since nothing
else of it is read. Quantised weights are removed from a config, since the row is about its cache.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from played_gpu import in_a_child, play_cuda, play_packages

SECTIONS = ("text_config", "llm_config", "language_config")
FREE_SHARE = 0.99
"""Of the GPU's memory, free before the weights are loaded."""
WEIGHTS_SHARE = 0.2
"""Of the same, taken by weights; any share does, for a row says what there was for the pools."""
GPUS = {
    "h100-80gb": ((9, 0), 81559),
    "h200": ((9, 0), 143771),
    "a100-80gb": ((8, 0), 81920),
    "b200": ((10, 0), 183359),
    "rtx-pro-6000": ((12, 0), 97887),
}
"""Compute capability, and what nvidia-smi calls the total, in MiB."""
ABSENT = (
    *("sgl_kernel", "flashinfer", "flash_attn", "deep_gemm", "deep_ep", "flash_mla", "cutlass", "tilelang", "triton"),
    *("torchaudio", "torchcodec", "decord", "decord2", "xgrammar", "outlines", "nvshmem", "tvm_ffi"),
    *("timm", "av", "quack", "humming", "kernels", "openai_harmony", "torch_memory_saver", "smg_grpc_servicer", "cupy"),
)
"""Packages that are played by empty modules where they are not installed."""


def play_gpu(gpu: str) -> None:
    """torch.cuda as one GPU of this name."""
    capability, mib = GPUS[gpu]
    total = mib * 2**20
    play_cuda(gpu, capability, total, int(total * FREE_SHARE))


def play_system(gpu: str) -> None:
    """nvidia-smi's total, free memory after the weights, and ranks that are alone."""
    import torch.distributed
    from sglang.srt.mem_cache import kv_cache_configurator, memory_pool
    from sglang.srt.utils import common

    mib = GPUS[gpu][1]
    common.get_nvgpu_memory_capacity = lambda: float(mib)
    kv_cache_configurator.get_available_gpu_memory = lambda *_, **__: mib / 1024 * (FREE_SHARE - WEIGHTS_SHARE)
    torch.distributed.all_reduce = lambda *_, **__: None
    memory_pool.MHATokenToKVPool._init_kv_copy_and_warmup = lambda _: None  # which would run a kernel
    torch.distributed.is_initialized = lambda: False


def rows_of(jobs: Iterable[dict[str, Any]], gpu: str) -> Iterator[dict[str, Any]]:
    """Each job with its answer. What is imported stays; each job is planned in a process of its own."""
    import torchvision  # noqa: F401
    from transformers import AutoProcessor  # noqa: F401  # the real ones, before kernels are played

    play_packages(ABSENT)
    play_gpu(gpu)
    play_system(gpu)
    for job in jobs:
        yield job | {"gpu": gpu} | in_a_child(lambda job=job: _answer(job, gpu))


def _answer(job: dict[str, Any], gpu: str) -> dict[str, Any]:
    config = job["config"]
    if isinstance(config, str):
        config = json.loads(Path(config).read_text())
    for part in (config, *(config[key] for key in SECTIONS if isinstance(config.get(key), dict))):
        part.pop("quantization_config", None)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        if "draft" in job:
            draft = Path(folder) / "draft"
            draft.mkdir()
            (draft / "config.json").write_text(json.dumps(job["draft"]))
            job = job | {"args": job["args"] | {"speculative_draft_model_path": str(draft)}}
        try:
            return {"want": _planned(folder, job, gpu)}
        except Exception as error:  # whatever it refuses with is the answer
            return {"refused": f"{type(error).__name__}: {error}"[:500]}


def _planned(folder: str, job: dict[str, Any], gpu: str) -> dict[str, Any]:
    """Resolves, publishes, sizes and builds, as a scheduler's process does, and reads what came of it."""
    from sglang.srt.runtime_context import SpawnRanks, get_parallel, get_schedule, publish
    from sglang.srt.server_args import ServerArgs

    arguments, stage = job.get("args") or {}, job.get("stage") or 0
    given = ServerArgs(model_path=folder, device="cuda", skip_tokenizer_init=True, **arguments)
    given.resolve_once()
    tp, pp = arguments.get("tp_size", 1), arguments.get("pp_size", 1)
    publish(given, role="scheduler", ranks=SpawnRanks(world_rank=stage * tp, gpu_id=0))
    alone = types.SimpleNamespace(cpu_group=None, device_group=None, world_size=1, rank_in_group=stage)
    get_parallel().override_permanently(world_group=alone, launch_world_size=1)
    group = types.SimpleNamespace(rank_in_group=stage, world_size=pp)
    configurator = _configurator(given, stage, group, job.get("window"), None)
    budget: list[int] = []
    _remember(configurator, budget)
    found = configurator.configure(pre_model_load_memory=GPUS[gpu][1] / 1024 * FREE_SHARE)
    states = getattr(found.req_to_token_pool, "mamba_pool", None)
    drafts = {}
    if "draft" in job:
        pools = _configurator(given, stage, group, None, found).configure(pre_model_load_memory=0)
        drafts = {"draft_kv_bytes": _bytes_of(pools.token_to_kv_pool, apart_from=found.token_to_kv_pool)}
    return {
        "tokens": found.max_total_num_tokens,
        "page_size": get_schedule().page_size,
        "max_requests": found.max_running_requests,
        "kv_bytes": _bytes_of(found.token_to_kv_pool, apart_from=states),
        "state_bytes": _bytes_of(states),
        "available_bytes": budget[0],
        "mem_fraction_static": get_schedule().mem_fraction_static,
    } | drafts


def _configurator(given: Any, stage: int, group: Any, own_window: int | None, target: Any) -> Any:
    """The configurator of a rank, with a model that is a range of layers. target: of a draft, the model's own pools."""
    from sglang.srt.configs.model_config import AttentionArch, ModelConfig
    from sglang.srt.distributed.utils import get_pp_indices
    from sglang.srt.mem_cache.kv_cache_configurator import KVCacheConfigurator
    from sglang.srt.mem_cache.kv_cache_dtype import configure_kv_cache_dtype
    from sglang.srt.model_executor.model_runner_components.layer_setup import resolve_layer_indices
    from sglang.srt.model_executor.model_runner_components.load_model_utils import resolve_sliding_window_size
    from sglang.srt.model_executor.model_runner_components.spec_aux_hidden_state import (
        resolve_spec_aux_hidden_state_config,
    )
    from sglang.srt.runtime_context import get_model, get_parallel, get_schedule, get_spec
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    drafts = target is not None
    path = get_spec().speculative_draft_model_path
    config = ModelConfig.from_server_args(given, **({"model_path": path, "is_draft_model": True} if drafts else {}))
    layers = max(config.num_hidden_layers, config.num_attention_layers)
    start, end = get_pp_indices(layers, stage, group.world_size)
    model = types.SimpleNamespace(**({} if drafts else {"start_layer": start, "end_layer": end}))
    text = config.hf_text_config
    window = getattr(text, "sliding_window", None) or getattr(text, "sliding_window_size", None)
    if own_window or window:
        model.get_attention_sliding_window_size = lambda: own_window or window - 1
    algorithm = SpeculativeAlgorithm.from_string(get_spec().speculative_algorithm)
    name, dtype = configure_kv_cache_dtype(
        server_args_kv_cache_dtype=get_model().kv_cache_dtype,
        model=model,
        model_dtype=config.dtype,
        is_draft_worker=drafts,
        is_dflash=algorithm.is_dflash(),
        speculative_draft_attention_backend=None,
        speculative_draft_kv_cache_dtype=get_spec().speculative_draft_kv_cache_dtype,
    )
    auxiliary = resolve_spec_aux_hidden_state_config(
        server_args=given, model_config=config, spec_algorithm=algorithm, is_draft_worker=drafts
    )
    return KVCacheConfigurator(
        device="cuda",
        gpu_id=0,
        attn_dp_size=get_parallel().attn_dp_size,
        pp_size=group.world_size,
        pp_group=group,
        model=model,
        model_config=config,
        server_args=given,
        kv_cache_dtype=dtype,
        kv_cache_dtype_str=name or get_model().kv_cache_dtype,
        model_dtype=config.dtype,
        page_size=get_schedule().page_size,
        sliding_window_size=resolve_sliding_window_size(model, config),
        spec_algorithm=algorithm,
        is_draft_worker=drafts,
        post_capture_kv_active=False,
        spec_aux_config=auxiliary,
        is_hybrid_swa=config.is_hybrid_swa,
        is_hybrid_swa_compress=config.is_hybrid_swa_compress,
        use_mla_backend=config.attention_arch == AttentionArch.MLA,
        layer_info=resolve_layer_indices(model=model, model_config=config, is_draft_worker=drafts),
        forward_stream=None,
        req_to_token_pool=target.req_to_token_pool if drafts else None,
        token_to_kv_pool_allocator=target.token_to_kv_pool_allocator if drafts else None,
        memory_pool_config=target.memory_pool_config if drafts else None,
        draft_model_idx=None,
    )


def _remember(configurator: Any, budget: list[int]) -> None:
    """Notes the memory that pools are made of: of models with states what there is before those."""
    own = type(configurator)
    with_states, profile = own._handle_max_mamba_cache, own._profile_available_bytes

    def states(self: Any, rest: float) -> float:
        budget.append(int(rest * 2**30))
        return with_states(self, rest)

    def profiled(self: Any, before: float) -> int:
        found: int = profile(self, before)
        budget.append(found)
        return found

    own._handle_max_mamba_cache, own._profile_available_bytes = states, profiled


def _bytes_of(root: object, apart_from: object = None) -> int:
    """Bytes of all tensors that an object holds, each storage once, but for tables of indices."""
    import torch

    found: dict[int, int] = {}
    seen = {id(apart_from)}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or each is None:
            continue
        seen.add(id(each))
        if isinstance(each, torch.Tensor):
            base = each if each._base is None else each._base
            if base.dtype not in (torch.int32, torch.int64, torch.uint64):
                found[id(base)] = base.untyped_storage().nbytes()
        elif isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)
        elif type(each).__module__.startswith("sglang."):
            waiting.extend(getattr(each, "__dict__", {}).values())
    return sum(found.values())


def main() -> None:
    """Prints a row for each job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=Path, help="one job per line")
    parser.add_argument("--gpu", choices=GPUS, default="h100-80gb")
    options = parser.parse_args()
    jobs = map(json.loads, options.jobs.read_text().splitlines())
    for row in rows_of(jobs, options.gpu):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
