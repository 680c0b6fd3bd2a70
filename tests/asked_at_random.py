"""Random questions about the shipped models: every engine, with settings of its own, on ranks that share the model."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

import kvcalc
from kvcalc.io.presets import preset_names

TOKENS = st.integers(1, 300) | st.integers(1, 10**5)
SETTINGS: dict[str, dict[str, tuple[Any, ...]]] = {
    "ideal": {"window": ("full",), "encoder_tokens": (1500,)},
    "llama-cpp": {
        "type_k": ("q8_0", "f32"),
        "type_v": ("q4_0",),
        "n_ubatch": (64, 1024),
        "swa_full": (True, False),
        "kv_unified": (True, False),
        "defaults": ("server", "cli"),
    },
    "lmdeploy": {
        "quant_policy": (4, 8, 16, 42),
        "block_size": (32, 128),
        "kernel_block_size": (16,),
        "backend": ("turbomind",),
        "session_len": (16384,),
        "version": ("0.15", "0.17"),
    },
    "mlx-lm": {"max_kv_size": (512, 8192), "prefill_step_size": (256,), "kv_bits": (4, 8)},
    "ollama": {"kv_cache_type": ("q8_0", "q4_0"), "num_batch": (128, 1024)},
    "sglang": {
        "page_size": (1, 16, 64),
        "kv_cache_dtype": ("fp8_e4m3",),
        "disable_radix_cache": (True,),
        "disable_hybrid_swa_memory": (True,),
        "max_running_requests": (8, 64),
        "context_length": (8192,),
    },
    "tensorrt-llm": {
        "tokens_per_block": (64, 128),
        "dtype": ("fp8",),
        "max_attention_window": ([4096], [1024, 8192]),
        "max_seq_len": (16384,),
    },
    "transformers": {
        "version": ("4.57", "5.0", "5.15"),
        "cache": ("static", "quantized_quanto"),
        "num_beams": (3,),
        "decode_steps": (7,),
        "encoder_tokens": (1500,),
    },
    "vllm": {
        "block_size": (16, 32, 128),
        "kv_cache_dtype": ("fp8",),
        "max_model_len": (4096, 131072),
        "enable_prefix_caching": (True, False),
        "disable_hybrid_kv_cache_manager": (True,),
        "max_num_batched_tokens": (2048, 16384),
        "gpu": ("h200", "b200"),
    },
}
"""Values that change what an engine stores."""
SHRINKS = {"kv_bits", "cache"}
"""Settings with which a longer context may take less: caches that are quantised from some length on."""


class Asked(NamedTuple):
    """A question, as each door takes it."""

    name: str
    tokens: int
    sequences: int
    engine: str
    settings: dict[str, Any]
    ranks: dict[str, int]

    @property
    def model(self) -> kvcalc.Model:
        return kvcalc.load(self.name)

    def for_api(self) -> dict[str, Any]:
        settings = {"engine_settings": self.settings} if self.settings else {}
        ranks = {"parallel": kvcalc.Parallel(**self.ranks)} if self.ranks else {}
        return {"tokens": self.tokens, "sequences": self.sequences, "engine": self.engine, **settings, **ranks}

    def for_command(self) -> list[str]:
        settings = [
            word for key, value in self.settings.items() for word in ("--engine-set", f"{key}={as_text(value)}")
        ]
        ranks = [word for name, degree in self.ranks.items() for word in (f"--{name}", str(degree))]
        question = ["-p", self.name, "-t", str(self.tokens), "-b", str(self.sequences), "-e", self.engine]
        return [*question, *settings, *ranks, "-f", "json"]

    def for_plan(self, **limit: Any) -> dict[str, Any]:
        settings = {"engine_settings": self.settings} if self.settings else {}
        question = {"model": self.name, "tokens": self.tokens, "sequences": self.sequences, "engine": self.engine}
        return {"deployments": [{"name": "d", **question, **settings, **self.ranks, **limit}]}


def as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def taken_by(engine: str) -> list[str]:
    """Shipped models that the engine has a cache for."""
    return [name for name in preset_names() if is_taken(name, engine)]


def is_taken(name: str, engine: str) -> bool:
    try:
        kvcalc.size(kvcalc.load(name), tokens=1, engine=engine)
    except kvcalc.KvcalcError as error:
        assert error.help
        return False
    return True


@st.composite
def questions(draw, engine: str, *, layouts: bool = True):
    """A question for an engine; it may refuse it."""
    names = draw(st.lists(st.sampled_from(sorted(SETTINGS[engine])), max_size=2, unique=True))
    settings = {name: draw(st.sampled_from(SETTINGS[engine][name])) for name in names}
    degrees = st.sampled_from([1, 1, 2, 4, 8])
    ranks = {name: degree for name in ("tp", "pp", "dp") if layouts and (degree := draw(degrees)) > 1}
    return Asked(
        draw(st.sampled_from(taken_by(engine))), draw(TOKENS), draw(st.integers(1, 6)), engine, settings, ranks
    )
