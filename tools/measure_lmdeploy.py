"""Measures what a version of LMDeploy (0.15 to 0.18) plans for a simulated GPU, as rows for the tests.

Needs a separate environment, without a GPU:
    python3.11 -m venv lmdeploy
    lmdeploy/bin/pip install torch 'transformers==5.19.0'          # a CPU build of torch suffices
    lmdeploy/bin/pip install --no-deps lmdeploy==0.18.0
    lmdeploy/bin/pip install accelerate aiohttp cloudpickle einops fastapi fire mmengine-lite openai openai_harmony \
        opencv-python-headless partial_json_parser peft pillow prometheus_client protobuf pybase64 pyzmq safetensors \
        sentencepiece shortuuid tiktoken triton uvicorn
Run: lmdeploy/bin/python tools/measure_lmdeploy.py < cases.jsonl > rows.jsonl

A case is {"name", "config": {a config.json}, "settings": {fields of PytorchEngineConfig}, "tp", "free_bytes", "drafts":
{"method", "num_speculative_tokens"}}; all but the config are optional. What runs is LMDeploy's own:
ConfigBuilder, ModelConfig, ExecutorBase.update_configs, BlockCachePlan, StateCacheEngine, the engine's longest session.
torch.cuda answers as one H100, flash_mla counts as installed. The model is not built: the operators' own caches come
from their implementations, one for each layer with such an operator.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

GPU = "NVIDIA H100 80GB HBM3"
CAPABILITY = (9, 0)
FREE_BYTES = 60 * 2**30
CSA_RATE = 4


def fake_gpu() -> None:
    """Makes torch.cuda answer as one GPU. Before LMDeploy is imported."""
    properties = types.SimpleNamespace(major=CAPABILITY[0], minor=CAPABILITY[1], name=GPU, total_memory=80 * 2**30)
    answers: dict[str, Callable[..., object]] = {
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: GPU,
        "get_device_properties": lambda *_: properties,
        "get_device_capability": lambda *_: CAPABILITY,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    flash_mla = types.ModuleType("flash_mla")
    flash_mla.flash_mla_sparse_fwd = None  # type: ignore[attr-defined]
    sys.modules["flash_mla"] = flash_mla


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """What LMDeploy plans for a case, or why it refuses."""
    try:
        return planned(case)
    except Exception as error:  # whatever a config class or an engine has to say
        return {"refused": str(error) or type(error).__name__}


def planned(case: dict[str, Any]) -> dict[str, Any]:
    """Blocks, bytes of a block and of a slot of states, the longest session, the window of the block table."""
    from lmdeploy.messages import PytorchEngineConfig, SpeculativeConfig
    from lmdeploy.pytorch.config import ModelConfig
    from lmdeploy.pytorch.engine.config_builder import ConfigBuilder
    from lmdeploy.pytorch.engine.engine import Engine

    given = PytorchEngineConfig(tp=case.get("tp", 1), **case.get("settings", {}))
    engine = ConfigBuilder.update_engine_config(given)
    cache, dist = ConfigBuilder.build_cache_config(engine), ConfigBuilder.build_dist_config(engine)
    drafts = case.get("drafts") or {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(case["config"]))
        model = ModelConfig.from_pretrained(
            folder,
            dist_config=dist,
            spec_method=drafts.get("method"),
            num_spec_tokens=drafts.get("num_speculative_tokens", 0),
            device_type="cuda",
            block_size=cache.block_size,
        )
        wanted = SpeculativeConfig(**drafts) if drafts else None
        speculative = ConfigBuilder.build_specdecode_config(folder, wanted, engine, cache, dist)
    set_policy([model] if speculative is None else [model, speculative.model_config], cache)
    executor = executor_of(model, cache, dist, speculative, case.get("free_bytes", FREE_BYTES))
    executor.update_configs()
    session = types.SimpleNamespace(
        scheduler_config=ConfigBuilder.build_scheduler_config(engine), cache_config=executor.cache_config
    )
    return {
        "num_blocks": executor.cache_config.num_gpu_blocks,
        "block_bytes": executor.block_bytes,
        "block_size": executor.cache_config.block_size,
        "state_slots": executor.cache_config.num_state_caches or 0,
        "state_slot_bytes": state_bytes(model),
        "vocab_size": model.vocab_size,
        "window_size": executor.cache_config.window_size,
        "max_session_len": Engine._get_max_session_len(session),
        "max_prefill_token_num": executor.cache_config.max_prefill_token_num,
    }


def set_policy(models: list[Any], cache: Any) -> None:
    """Sparse latents have formats of their own; before 0.18 the cache itself sees to that."""
    try:
        from lmdeploy.pytorch.engine.executor import _finalize_sparse_mla_cache_policy
    except ImportError:
        return
    _finalize_sparse_mla_cache_policy(models, cache)


def executor_of(model: Any, cache: Any, dist: Any, speculative: Any, free_bytes: int) -> Any:
    """LMDeploy's executor with one worker, whose memory is `free_bytes`."""
    from lmdeploy.pytorch.config import BackendConfig, MiscConfig
    from lmdeploy.pytorch.engine.executor.base import ExecutorBase

    class Executor(ExecutorBase):  # type: ignore[misc]
        block_bytes = 0

        def gather_free_mem(self) -> list[int]:
            return [free_bytes]

        def set_cache_config(self, *_: object) -> None:
            pass

        def set_model_config(self, *_: object) -> None:
            pass

        def _prepare_worker_cache_plans(self, cache_config: Any, spec_cache_config: Any = None) -> list[Any]:
            from lmdeploy.pytorch.engine.executor.base import _WorkerCachePlanSizes

            sizes = _WorkerCachePlanSizes(block_bytes(model, cache_config, dist.attn_tp))
            if spec_cache_config is not None:
                draft = speculative.model_config
                sizes = sizes._replace(spec=block_bytes(draft, spec_cache_config, dist.attn_tp))
            self.block_bytes = sizes.total
            return [sizes]

        def _get_cache_block_sizes(self, *asked: object) -> Any:  # before 0.18
            sizes = super()._get_cache_block_sizes(*asked)
            self.block_bytes = sizes.total
            return sizes

    return Executor("", model, cache, BackendConfig(), dist, MiscConfig(), specdecode_config=speculative)


def block_bytes(model: Any, cache: Any, tp: int) -> int:
    """Bytes of a block of LMDeploy's plan, with what operators ask for."""
    from lmdeploy.pytorch.engine.cache_engine.plan import build_block_cache_plan

    return int(build_block_cache_plan(model, cache, tp, lambda ask: requests_of(model, ask)).logical_block_nbytes)


def state_bytes(model: Any) -> int:
    """Bytes of one slot of states."""
    from lmdeploy.pytorch.engine.cache_engine import StateCacheEngine

    if not model.states_shapes:
        return 0
    specs = getattr(model, "state_cache_specs", None) or []
    if hasattr(StateCacheEngine, "get_state_slot_nbytes"):
        return int(StateCacheEngine.get_state_slot_nbytes(model.states_shapes, state_specs=specs))
    known = {"state_specs": specs, "num_layers": model.num_layers} if specs else {}  # before 0.18
    return int(StateCacheEngine.get_cache_state_size(model.states_shapes, **known))


def requests_of(model: Any, context: Any) -> Sequence[Any]:
    """Caches that operators of the model ask for: an indexer's keys, DeepSeek-V4's compressed entries."""
    config = model.hf_config
    if model.mla_index_topk is not None:
        return tuple(indexer_requests(config, model.num_layers, context))
    if config.model_type == "deepseek_v4":
        return tuple(compressor_requests(config, context))
    return ()


def indexer_requests(config: Any, layers: int, context: Any) -> Iterator[Any]:
    """One for each layer whose indexer is its own."""
    from lmdeploy.pytorch.backends.cuda.nsa import TritonNSAIndexFP8Impl

    types_of = getattr(config, "indexer_types", None) or ["full"] * layers
    for layer in range(layers):
        if layer >= len(types_of) or types_of[layer] != "shared":
            ask = TritonNSAIndexFP8Impl.get_block_cache_requests
            yield from ask(None, context.geometry, config.index_head_dim)


def compressor_requests(config: Any, context: Any) -> Iterator[Any]:
    """One for the entries of each compressed layer, and one for its index."""
    from lmdeploy.pytorch.backends.cuda.v4_compressor import TritonV4CompressorImpl
    from lmdeploy.pytorch.configurations.deepseek_v4 import get_v4_compress_ratios

    for ratio in filter(None, get_v4_compress_ratios(config)):
        overlap = ratio == CSA_RATE
        yield from TritonV4CompressorImpl(ratio, overlap, config.head_dim).get_block_cache_requests(context.geometry)
        if overlap:
            index = TritonV4CompressorImpl(ratio, overlap, config.index_head_dim, is_indexer=True)
            yield from index.get_block_cache_requests(context.geometry)


def version() -> str:
    """The version that runs."""
    from lmdeploy import __version__

    return str(__version__)


def row_of(case: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The case as a question to `kvcalc.fit`, and what LMDeploy made of it."""
    head = {"name": case.get("name", case["config"].get("model_type", "")), "config": case["config"], "call": "fit"}
    drafts = case.get("drafts") or {}
    guessed = {name: drafts[name] for name in ("num_speculative_tokens",) if name in drafts}
    question = {
        "engine": f"lmdeploy@{version()}",
        "available_bytes": case.get("free_bytes", FREE_BYTES),
        "parallel": {"tp": case.get("tp", 1)},
        "engine_settings": case.get("settings", {}) | guessed,
    }
    want = {"refused": True} if "refused" in result else {"num_blocks": result["num_blocks"]}
    return {**head, "mtp": bool(drafts), "question": question, "want": want, **result}


def main() -> None:
    """Reads cases and writes rows, a line each; what LMDeploy logs goes to stderr."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as rows:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        fake_gpu()
        for line in sys.stdin:
            case = json.loads(line)
            print(json.dumps(row_of(case, measured(case))), file=rows, flush=True)


if __name__ == "__main__":
    main()
