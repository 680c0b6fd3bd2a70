"""Measures what a version of vLLM (from 0.33) plans for a simulated GPU, as rows for the tests.

Needs a separate environment, without a GPU; vLLM without its kernels, and what its Python imports:
    python3.11 -m venv vllm && vllm/bin/pip install torch 'transformers==5.19.0' triton   # torch for a CPU suffices
    vllm/bin/pip install --no-deps vllm==0.33.0 compressed-tensors==0.17.0 depyf==0.20.0 xgrammar==0.2.8 \
        apache-tvm-ffi==0.1.11 lm-format-enforcer interegular model-hosting-container-standards
    vllm/bin/pip install accelerate aiohttp anthropic blake3 cachetools cbor2 cloudpickle einops fastapi ijson lark \
        llguidance mcp mistral_common msgspec openai opencv-python-headless orjson oss-harmony outlines_core==0.2.14 \
        partial-json-parser prometheus-fastapi-instrumentator psutil py-cpuinfo pybase64 python-json-logger \
        python-multipart pyzmq regex sentencepiece setproctitle tiktoken uvicorn uvloop watchfiles
Run: vllm/bin/python tools/measure_vllm.py tests/data/vllm_versions.jsonl.gz new.jsonl.gz --configs FOLDER

Rows are {"name", "config" or "model", "question": {"available_bytes", "parallel", "engine_settings"}}, a line each, and
"drafter", the config of a model that drafts; a "model" is a FOLDER/model.json. Settings are arguments of vLLM with
`gpu` and `usage` (server, llm). They are written again with what this vLLM plans as `want`, or {"refused": true} and
its words. From a file with rows of several versions, those of --of VERSION are measured (default: the newest). --check
compares with the rows' own numbers and writes nothing.

What runs is vLLM's own: EngineArgs, VllmConfig, the model's class built on meta, each layer's spec, the choice of block
and layout, groups, plan and capacity. Simulated: torch.cuda, packages of kernels, ranks (torch's fake process group),
and that flashinfer, deep_gemm and the like are installed. Quantised weights are removed, since a row is about its
cache.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from played_gpu import Anything, in_a_child, play_cuda, play_packages
from vllm_rows import Row, arguments_of, config_of, row_of, run, with_drafter

GPUS = {
    "NVIDIA H100 80GB HBM3": ((9, 0), 85_899_345_920),
    "NVIDIA A100-SXM4-80GB": ((8, 0), 85_094_825_984),
    "NVIDIA B200": ((10, 0), 191_471_026_176),
    "NVIDIA GeForce RTX 4090": ((8, 9), 25_393_692_672),
}
"""Compute capability and bytes in all, as they were played for the rows there are."""
PLACES = 6
"""Decimal places of a concurrency in a row."""
ABSENT = (
    *("flashinfer", "flash_attn", "flash_mla", "deep_gemm", "deep_ep", "cutlass", "tilelang", "quack", "humming"),
    *("fastsafetensors", "instanttensor", "numba", "nvtx", "pynvml", "torchaudio", "torchcodec", "torchvision"),
)
"""Packages that are played by empty modules where they are not installed."""
EXTENSIONS = ("_C_stable_libtorch", "_moe_C_stable_libtorch", "_deepselect_C", "_flashkda_C", "_flashmla_C")
MORE_EXTENSIONS = ("_flashmla_extension_C", "_qutlass_C", "cumem_allocator")
FLASH_ATTENTION = ("vllm_flash_attn._vllm_fa2_C", "vllm_flash_attn._vllm_fa3_C")
COMMUNICATOR = "vllm.distributed.device_communicators.base_device_communicator.DeviceCommunicatorBase"
LOADERS = ("standalone_ar.speculator", "eagle.utils", "dflash.utils")
"""Modules that load a draft."""
LIMIT_SECONDS = 120
"""Timeout of a row: a class that waits for another rank would wait forever."""
MOST_RANKS = 64
"""GPUs available to ranks."""
OPERATORS = (
    "_C",
    "_moe_C",
    "_C_cache_ops",
    "_C_custom_ar",
    "_C_cuda_utils",
    "_qutlass_C",
    "_flashmla_C",
    "_vllm_fa2_C",
    "_vllm_fa3_C",
)
"""Namespaces of torch.ops that the extensions of vLLM fill."""


def play(gpu: str) -> None:
    """A GPU of this name, kernels that nothing runs, and ranks that are alone. Before vLLM is imported."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "CUDA_VISIBLE_DEVICES": ""}
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    import torch._dynamo  # these look for packages that are played in a moment
    import torch.utils.flop_counter
    from torch.testing._internal.distributed import fake_pg  # noqa: F401
    from transformers import AutoConfig, AutoProcessor, PreTrainedModel  # noqa: F401

    play_packages(ABSENT, [f"vllm.{name}" for name in (*EXTENSIONS, *MORE_EXTENSIONS, *FLASH_ATTENTION)])
    capability, total_bytes = GPUS[gpu]
    play_cuda(gpu, capability, total_bytes, total_bytes)
    torch.accelerator.current_accelerator = lambda *_, **__: torch.device("cuda")
    torch.accelerator.current_device_index = lambda: 0
    from triton.runtime import driver

    driver.set_active(Anything())
    for name in OPERATORS:
        setattr(torch.ops, name, Anything())
    own = torch.library.register_fake

    def register_fake(operator: Any, *args: Any, **kwargs: Any) -> Any:
        is_played = isinstance(operator, str) and operator.partition("::")[0] in OPERATORS
        return (lambda function: function) if is_played else own(operator, *args, **kwargs)

    torch.library.register_fake = register_fake
    import vllm.platforms
    from vllm.platforms.cuda import NonNvmlCudaPlatform

    class Platform(NonNvmlCudaPlatform):  # type: ignore[misc]
        @classmethod
        def device_count(cls) -> int:
            return MOST_RANKS

        @classmethod
        def get_device_communicator_cls(cls) -> str:
            return COMMUNICATOR

    vllm.platforms._current_platform = Platform()
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda look: look()  # a new process would not play


def answer_of(row: Row, configs: Path | None) -> Row:
    """What vLLM plans for a row, or why it refuses."""
    signal.alarm(LIMIT_SECONDS)
    config = config_of(row, configs)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config))
        try:
            return planned(folder, with_drafter(row, folder))
        except Exception as error:  # whatever
            #  it refuses with is the answer
            return {"refused": f"{type(error).__name__}: {error}"[:500]}


def planned(folder: str, question: Row) -> Row:
    """Blocks, tokens, concurrency and bytes of a block in each stage, as an engine core plans them."""
    from vllm.v1.core.kv_cache_planning import get_global_kv_cache_groups, get_kv_cache_configs
    from vllm.v1.core.kv_cache_utils import generate_scheduler_kv_cache_config, get_kv_cache_capacity

    stages = question.get("parallel", {}).get("pp", 1)
    built = [stage_of(folder, question, stage) for stage in range(stages)]
    vllm_config, specs = built[0][0], [specs for _, specs, _ in built]
    set_layout(vllm_config, specs, [layouts for _, _, layouts in built])
    groups = get_global_kv_cache_groups(vllm_config, specs)
    vllm_config.adjust_dcp_kv_cache_interleave_size(groups)
    plans = get_kv_cache_configs(vllm_config, specs, [question["available_bytes"]] * stages, groups)
    tokens, concurrency = get_kv_cache_capacity(vllm_config, generate_scheduler_kv_cache_config(plans))
    return {
        "num_blocks": plans[0].num_blocks,
        "tokens": tokens,
        "max_concurrency": round(concurrency, PLACES),
        "bytes_per_block": [plan.kv_cache_tensors[0].size // plan.num_blocks for plan in plans],
    }


def stage_of(folder: str, question: Row, stage: int) -> tuple[Any, Row, list[str]]:
    """A stage's config with its model built, the specs of its layers and the layouts of its backends."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.torch_utils import set_default_torch_dtype
    from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs
    from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec
    from vllm.v1.worker.worker_base import WorkerBase

    is_server = question.get("engine_settings", {}).get("usage", "server") == "server"
    given = EngineArgs(model=folder, skip_tokenizer_init=True, load_format="dummy", **arguments_of(question))
    usage = UsageContext.OPENAI_API_SERVER if is_server else UsageContext.LLM_CLASS
    vllm_config = given.create_engine_config(usage_context=usage)
    with set_current_vllm_config(vllm_config):
        connect(vllm_config, stage)
        with set_default_torch_dtype(vllm_config.model_config.dtype), torch.device("meta"):
            model = initialize_model(vllm_config)
            if vllm_config.speculative_config is not None:
                load_drafts(vllm_config, model)
        current_platform.update_block_size_for_backend(vllm_config)
        register_all_kvcache_specs(vllm_config)
        worker = types.SimpleNamespace(vllm_config=vllm_config)
        return vllm_config, get_kv_cache_spec(vllm_config), WorkerBase.get_supported_kv_cache_layouts(worker)


def load_drafts(vllm_config: Any, model: Any) -> None:
    """Builds the layers that draft, as the last stage does: by the class that would run them, on meta."""
    from importlib import import_module

    import torch
    from vllm.distributed import get_pp_group
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.v1.worker.gpu import spec_decode

    def get_model(*, vllm_config: Any, model_config: Any = None, prefix: str = "", **_: Any) -> Any:
        return initialize_model(vllm_config, prefix=prefix, model_config=model_config)

    for name in LOADERS:
        import_module(f"{spec_decode.__name__}.{name}").get_model = get_model
    if get_pp_group().is_last_rank:
        speculator = spec_decode.init_speculator(vllm_config, torch.device("meta"), None)
        if hasattr(speculator, "load_model"):  # ngram has nothing to load
            speculator.load_model(model)


def connect(vllm_config: Any, stage: int) -> None:
    """The groups of a stage's first rank, of ranks that answer nothing."""
    import torch
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from vllm.distributed import parallel_state
    from vllm.distributed.device_communicators.shm_broadcast import MessageQueue

    dist, parallel = torch.distributed, vllm_config.parallel_config
    if dist.is_initialized():
        parallel_state.destroy_model_parallel()
        parallel_state.destroy_distributed_environment()
    rank = stage * parallel.tensor_parallel_size
    dist.init_process_group("fake", rank=rank, world_size=parallel.world_size, store=FakeStore())
    own = dist.distributed_c10d.new_group
    dist.new_group = lambda *args, **kwargs: own(*args, **{**kwargs, "backend": "fake"})
    MessageQueue.create_from_process_group = lambda *_, **__: None
    parallel_state.in_the_same_node_as = lambda *_, **__: [True] * parallel.world_size
    parallel_state.init_distributed_environment(parallel.world_size, rank, "env://", 0, "fake")
    sizes = (parallel.tensor_parallel_size, parallel.pipeline_parallel_size)
    parallel_state.ensure_model_parallel_initialized(
        *sizes, decode_context_model_parallel_size=parallel.decode_context_parallel_size
    )


def set_layout(vllm_config: Any, specs: list[Row], layouts: list[list[str]]) -> None:
    """The layout of the whole model, which its groups depend on."""
    from vllm.v1.attention.backends.utils import resolve_kv_cache_layout
    from vllm.v1.worker.worker_base import WorkerBase

    layout = resolve_kv_cache_layout(vllm_config, layouts, [spec for each in specs for spec in each.values()])
    interleave = vllm_config.parallel_config.cp_kv_cache_interleave_size
    WorkerBase.set_kv_cache_layout(types.SimpleNamespace(vllm_config=vllm_config), layout.name, interleave)


def measured(rows: list[Row], configs: Path | None) -> Iterator[Row]:
    """Each row as this vLLM plans it, in a process of its own."""
    gpus = {row["question"].get("engine_settings", {}).get("gpu", next(iter(GPUS))) for row in rows}
    if len(gpus) != 1 or not gpus <= set(GPUS):
        raise SystemExit(f"rows of one GPU at a time, one of {', '.join(GPUS)}: {', '.join(sorted(gpus)) or 'none'}")
    play(gpus.pop())
    import vllm.version
    from vllm.engine.arg_utils import EngineArgs  # noqa: F401  # imported once, for every child

    for row in rows:
        answer = in_a_child(lambda row=row: answer_of(row, configs))
        yield row_of(row, vllm.version.__version__, answer)


if __name__ == "__main__":
    sys.exit(run(__doc__, measured))
