"""llama-server as Ollama starts it: which llama.cpp, with which flags.

    -c num_ctx * num_parallel  -np num_parallel  -b and -ub num_batch  --cache-type-k, -v if set  --flash-attn

Neither --swa-full nor --kv-unified is passed, and with -np the slots of llama-server share no cache. By default
num_batch follows the whole context: 512 up to 4,096 tokens, 1,024 up to 32,768, 2,048 above, and less if memory is
short. Source: llm/llama_server.go (startLlamaServer), server/sched.go (automaticGenerationBatch).
"""

from __future__ import annotations

from kvcalc.cache.slots.engines import switched
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Engine
from kvcalc.engines.llama_cpp.architectures import architecture_of
from kvcalc.engines.llama_cpp.engine import SERVER, LlamaCpp
from kvcalc.model import Model

BATCHES = {1: 512, 4097: 1024, 32_769: 2048}
"""Batch sizes by tokens of the whole context."""
ONE_SEQUENCE = frozenset(
    {
        *("mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe", "nemotron_h"),
        *("nemotron_h_moe", "nemotron_h_omni"),
    }
)
"""Architectures loaded for one sequence, whatever OLLAMA_NUM_PARALLEL says (server/sched.go, load)."""


def llama_server(
    build: str, *, sequences: int, batch: int, cache_type: str | None, flash_attention: bool | None
) -> LlamaCpp:
    """llama.cpp with the flags passed by Ollama."""
    flash_attn = "auto" if flash_attention is None else "on" if flash_attention else "off"
    settings = {"defaults": SERVER, "n_batch": batch, "n_ubatch": batch, "n_seq_max": sequences}
    formats = {"type_k": cache_type, "type_v": cache_type, "flash_attn": flash_attn, "kv_unified": False}
    engine = Engine.of(f"llama_cpp@{build}", {**settings, **formats})
    assert isinstance(engine, LlamaCpp)
    return engine


def loads_for_one(model: Model) -> bool:
    """Whether Ollama loads the model for one sequence; other requests take turns."""
    return architecture_of(model) in ONE_SEQUENCE


def by_batch(stored: dict[int, tuple[CacheTensor, ...]]) -> tuple[CacheTensor, ...]:
    """Tensors of a layer for each batch size, combined into one whose slots change at their token counts."""
    rows = list(stored.items())
    _, tensors = rows[-1]
    for (token, _), (_, before) in zip(reversed(rows[1:]), reversed(rows[:-1]), strict=True):
        tensors = tuple(_joined(early, token, late) for early, late in zip(before, tensors, strict=True))
    return tensors


def _joined(early: CacheTensor, token: int, late: CacheTensor) -> CacheTensor:
    if early.slot_rule == late.slot_rule:
        return late
    return late._replace(slot_rule=switched(early.slot_rule, token, late.slot_rule))
