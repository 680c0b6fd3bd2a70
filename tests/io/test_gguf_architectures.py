"""What each architecture's rules make of a small model: bytes worked out by hand from llama.cpp's source.

A context of 4,096 cells in f16, with llama-cli's defaults: sliding layers have pad(window + 512) cells. Rows are written
as layers x cells x elements of K and V x 2 bytes, and states as layers x elements x 4 bytes.
"""

from __future__ import annotations

import pytest

import kvcalc
from kvcalc.engines.llama_cpp.architectures import MODEL_TYPES

N = 4096
GQA = {
    "attention.head_count": 8,
    "attention.head_count_kv": 2,
    "attention.key_length": 64,
    "attention.value_length": 64,
}
KV = 2 * 2 * 64 * 2  # K and V, 2 heads of 64, 2 bytes
LATENT = {
    **{
        "attention.head_count": 4,
        "attention.head_count_kv": 1,
        "attention.key_length": 72,
        "attention.value_length": 64,
    },
    **{"attention.kv_lora_rank": 64, "attention.key_length_mla": 24, "attention.value_length_mla": 16},
}
ROW = 72 * 2  # one row of latent and rotary key
SSM = {"ssm.conv_kernel": 4, "ssm.inner_size": 256, "ssm.state_size": 16, "ssm.time_step_rank": 8, "ssm.group_count": 2}
MAMBA = (3 * 256 + 256 * 16) * 4
MAMBA2 = (3 * (256 + 2 * 2 * 16) + 256 * 16) * 4
KDA = {"ssm.conv_kernel": 4, "kda.head_dim": 16}
KDA_STATES = (3 * 3 * 4 * 16 + 4 * 16 * 16) * 4
INDEX = {"attention.indexer.key_length": 32, "attention.indexer.head_count": 4, "attention.indexer.top_k": 64}
WKV = {"attention.head_count": 0, "wkv.head_size": 16}


def window(tokens: int, pattern=None) -> dict:
    return {**GQA, "attention.sliding_window": tokens} | (
        {} if pattern is None else {"attention.sliding_window_pattern": pattern}
    )


ROWS = {
    "llama": [(GQA, 8 * N * KV)],
    "llama, heads by layer": [({**GQA, "attention.head_count_kv": [1, 2, 4, 8, 1, 2, 4, 8]}, N * 2 * 64 * 2 * 30)],
    "llama, no heads of its own for K and V": [({**GQA, "attention.head_count_kv": None}, 8 * N * 8 * 64 * 2 * 2)],
    "llama, widths from the embedding": [({"attention.head_count": 4, "embedding_length": 128}, 8 * N * 4 * 32 * 2 * 2)],
    "gemma2": [(GQA, 4 * N * KV + 4 * N * KV), (window(1024), 4 * N * KV + 4 * 1536 * KV)],
    "gemma3": [(GQA, 8 * N * KV), (window(1000), 7 * 1536 * KV + N * KV), (window(1000, 2), 4 * (1536 + N) * KV)],
    "gemma3n": [({**window(512), "block_count": 30}, 16 * 1024 * KV + 4 * N * KV)],
    "gemma4": [
        (
            {**window(512, [True, True, True, False] * 2), "attention.key_length_swa": 32,
             "attention.value_length_swa": 32, "attention.shared_kv_layers": 3},
            4 * 1024 * KV // 2 + N * KV,
        )
    ],
    "gpt-oss": [(window(128), 4 * 768 * KV + 4 * N * KV)],
    "cohere2": [(window(512), 6 * 1024 * KV + 2 * N * KV)],
    "cohere2moe": [(window(512), 6 * 1024 * KV + 2 * N * KV)],
    "olmo2": [(GQA, 8 * N * KV), (window(512), 6 * 1024 * KV + 2 * N * KV)],
    "llama4": [({**GQA, "attention.sliding_window": 0}, 8 * N * KV), (GQA, 8 * N * KV)],
    "exaone4": [(window(512), 8 * N * KV), ({**window(512), "block_count": 64}, 48 * 1024 * KV + 16 * N * KV)],
    "exaone-moe": [(window(512), 6 * 1024 * KV + 2 * N * KV)],
    "afmoe": [(window(512), 6 * 1024 * KV + 2 * N * KV)],
    "mellum": [(window(512), 6 * 1024 * KV + 2 * N * KV)],
    "muse-glimmer": [(window(512), 6 * 1024 * KV + 2 * N * KV)],
    "plamo3": [(window(512), 7 * 1024 * KV + N * KV)],
    "smallthinker": [(window(512), 8 * N * KV), ({**GQA, "context_length": 1}, 8 * N * KV)],
    "laguna": [(window(512), 6 * 1024 * KV + 2 * N * KV), (GQA, 8 * N * KV)],
    "step35": [(window(512, [False, True] * 4), 4 * 1024 * KV + 4 * N * KV)],
    "mimo2": [(window(128, [True] * 7 + [False]), 7 * 768 * KV + N * KV)],
    "granite_swa": [(window(512, [True] * 4 + [False] * 4), 4 * 1024 * KV + 4 * N * KV)],
    "maple": [(window(512, [True] * 4 + [False] * 4), 4 * 1024 * KV + 4 * N * KV)],
    "spark2_5": [(window(512, [True] * 4 + [False] * 4), 4 * 1024 * KV + 4 * N * KV)],
    "phi3": [(window(512), 8 * N * KV)],
    "qwen2": [({**GQA, "nextn_predict_layers": 0}, 8 * N * KV)],
    "glm4moe": [({**GQA, "nextn_predict_layers": 1}, 7 * N * KV)],
    "deci": [({**GQA, "attention.head_count_kv": [2, 0] * 4}, 4 * N * KV)],
    "graniteswitch": [(GQA, 8 * N * KV + N * KV // 2)],
    "nanbeige": [({**GQA, "num_loops": 3}, 24 * N * KV)],
    "hrm_text": [(GQA, 8 * N * KV)],
    "t5": [(GQA, 8 * N * KV)],
    "deepseek2": [(LATENT, 8 * N * ROW), ({**LATENT, "nextn_predict_layers": 2}, 6 * N * ROW)],
    "mistral4": [(LATENT, 8 * N * ROW)],
    "minicpm3": [({**GQA, "attention.head_count_kv": 8, "attention.key_length": 96}, 8 * N * 8 * (96 + 64) * 2)],
    "plm": [({**GQA, "attention.head_count_kv": 8, "attention.key_length": 96}, 8 * N * 8 * (96 + 64) * 2)],
    "deepseek32": [({**LATENT, **INDEX, "nextn_predict_layers": 1}, 7 * N * (ROW + 32 * 2))],
    "glm-dsa": [
        ({**LATENT, **INDEX}, 8 * N * (ROW + 32 * 2)),
        ({**LATENT, **INDEX, "attention.indexer.types": [1, 0, 0, 0] * 2}, 8 * N * ROW + 2 * N * 32 * 2),
        ({**LATENT, **INDEX, "context_length": 2**20}, 8 * N * ROW + 4 * N * 32 * 2),
    ],
    "hy_v4": [
        ({**LATENT}, 8 * N * ROW),
        ({**LATENT, **INDEX, "attention.indexer.types": [1, 0] * 4}, 8 * N * ROW + 4 * N * 32 * 2),
    ],
    "dots3note": [
        (
            {**LATENT, **INDEX, "attention.sliding_window": 512,
             "attention.sliding_window_pattern": [True, False] * 4, "attention.indexer.types": [0, 1, 0, 0] * 2,
             "attention.kv_lora_rank_swa": 128, "attention.key_length_swa": 144, "attention.key_length_mla_swa": 24,
             "attention.value_length_mla_swa": 16},
            4 * 1024 * 144 * 2 + 4 * N * ROW + 2 * N * 32 * 2,
        )
    ],
    "minimax-m3": [({**GQA, **INDEX, "leading_dense_block_count": 3}, 8 * N * KV + 5 * N * (32 + 64) * 2)],
    "mamba": [({**SSM, "attention.head_count": 0}, 8 * MAMBA)],
    "mamba2": [({**SSM, "attention.head_count": 0}, 8 * MAMBA2)],
    "jamba": [({**GQA, **SSM, "attention.head_count_kv": [0, 2] * 4}, 4 * MAMBA + 4 * N * KV)],
    "plamo2": [
        ({**GQA, **SSM, "ssm.group_count": 0, "attention.head_count_kv": [0, 2] * 4,
          "attention.head_count": [0, 8] * 4}, 4 * MAMBA + 4 * N * KV)
    ],
    "granitehybrid": [({**GQA, **SSM, "attention.head_count_kv": [0, 2] * 4}, 4 * MAMBA2 + 4 * N * KV)],
    "falcon-h1": [({**GQA, **SSM}, 8 * (MAMBA2 + N * KV))],
    "nemotron_h": [
        ({**GQA, **SSM, "attention.head_count_kv": [0, 0, 2, 0] * 2, "feed_forward_length": [0, 9, 0, 9] * 2},
         2 * MAMBA2 + 2 * N * KV)
    ],
    "lfm2": [
        ({**GQA, "shortconv.l_cache": 3, "attention.head_count_kv": [0, 2] * 4}, 4 * 512 * 2 * 4 + 4 * N * KV),
        ({**window(512), "shortconv.l_cache": 3, "attention.head_count_kv": [0, 2] * 4}, 4 * 512 * 2 * 4 + 4 * 1024 * KV),
    ],
    "lfm2moe": [({**GQA, "shortconv.l_cache": 3, "attention.head_count_kv": [0, 2] * 4}, 4 * 512 * 2 * 4 + 4 * N * KV)],
    "qwen3next": [
        ({**GQA, **SSM}, 6 * MAMBA2 + 2 * N * KV),
        ({**GQA, **SSM, "full_attention_interval": 2}, 4 * MAMBA2 + 4 * N * KV),
        ({**GQA, **SSM, "attention.recurrent_layers": [True] + [False] * 7}, MAMBA2 + 7 * N * KV),
    ],
    "qwen35": [({**GQA, **SSM, "nextn_predict_layers": 1, "block_count": 9}, 6 * MAMBA2 + 2 * N * KV)],
    "qwen4exp": [({**GQA, **SSM, **INDEX}, 6 * MAMBA2 + 2 * N * (KV + 32 * 2))],
    "kimi-linear": [({**LATENT, **KDA, "attention.head_count_kv": [0, 0, 0, 1] * 2}, 6 * KDA_STATES + 2 * N * ROW)],
    "kimi-k3": [({**LATENT, **KDA, "attention.head_count_kv": [0, 0, 0, 1] * 2}, 6 * KDA_STATES + 2 * N * ROW)],
    "bailingmoe3": [({**LATENT, **KDA, "attention.head_count_kv": [0, 0, 0, 1] * 2}, 6 * KDA_STATES + 2 * N * ROW)],
    "glm5-next": [
        ({**LATENT, **KDA, **INDEX, "attention.head_count_kv": [0, 0, 0, 1] * 2, "attention.indexer.kpool": 4},
         6 * KDA_STATES + 2 * N * (ROW + 3 * 32 * 2))
    ],
    "minimax-01": [(GQA, 7 * 8 * 64 * 64 * 4 + N * KV)],
    "rwkv6": [(WKV, 8 * (2 * 512 + 512 * 16) * 4)],
    "rwkv7": [(WKV, 8 * (2 * 512 + 512 * 16) * 4)],
    "rwkv6qwen2": [({**WKV, "token_shift_count": 1}, 8 * (512 + 512 * 16) * 4)],
    "arwkv7": [({**WKV, "token_shift_count": 1}, 8 * (512 + 512 * 16) * 4)],
}  # fmt: skip
CASES = [(name, *row) for name, several in ROWS.items() for row in several]


def load(name: str, metadata: dict) -> kvcalc.Model:
    architecture = name.partition(",")[0]
    keys = {"block_count": 8, "context_length": N, "embedding_length": 512} | metadata
    named = {f"{architecture}.{key}": value for key, value in keys.items() if value is not None}
    return kvcalc.load({"general.architecture": architecture, **named})


def total(model: kvcalc.Model, **question) -> int:
    settings = {"defaults": "cli"} | question.pop("settings", {})
    asked = {"tokens": N, "kv_dtype": "fp16"} | question
    return kvcalc.size(model, **asked, engine="llama_cpp", engine_settings=settings).total_bytes


@pytest.mark.parametrize(
    ("name", "metadata", "expected"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_architecture_is_read_by_its_rules(name, metadata, expected):
    assert total(load(name, metadata)) == expected


def test_smallthinkers_window_is_4096_whatever_the_file_says():
    assert total(load("smallthinker", window(512)), tokens=16384) == 6 * (4096 + 512) * KV + 2 * 16384 * KV


def test_llama4_has_chunks_of_8192_whatever_the_file_says():
    assert total(load("llama4", GQA), tokens=16384) == 6 * (8192 + 512) * KV + 2 * 16384 * KV


def test_layers_that_predict_tokens_are_added_when_they_are_asked_for():
    model = load("glm4moe", {**GQA, "nextn_predict_layers": 1})
    from kvcalc.model import with_draft_layers

    assert total(with_draft_layers(model)) == 8 * N * KV


def test_a_draft_layer_that_shares_the_cache_is_counted_and_noted():
    model = load(
        "lfm2", {**GQA, "shortconv.l_cache": 3, "attention.head_count_kv": [0, 2] * 4, "nextn_predict_layers": 1}
    )
    assert total(model) == 4 * 512 * 2 * 4 + 4 * N * KV
    assert model.notes == (
        "the last 1 of its layers are for multi-token prediction; llama.cpp caches them with the rest",
    )


def test_states_are_kept_for_drafts_where_the_architecture_can_go_back():
    for name, copies in (("lfm2", 4), ("jamba", 1)):
        states = {"shortconv.l_cache": 3} if name == "lfm2" else SSM
        model = load(name, {**GQA, **states, "attention.head_count_kv": [0, 2] * 4})
        expected = 4 * (512 * 2 * 4 if name == "lfm2" else MAMBA)
        assert total(model, settings={"n_rs_seq": 3}) == copies * expected + 4 * N * KV


def test_without_flash_attention_v_is_as_wide_as_the_widest_row():
    heads = {**GQA, "attention.head_count_kv": [1, 2, 4, 8, 1, 2, 4, 8]}
    assert total(load("llama", heads), settings={"flash_attn": "off"}) == N * 64 * 2 * (30 + 8 * 8)
    assert total(load("grok", heads)) == N * 64 * 2 * (30 + 8 * 8)  # which has no flash attention


def test_every_architecture_of_llama_cpp_is_known():
    """LLM_ARCH_NAMES less clip and wavtokenizer-dec (no language models), gptj (without code) and (unknown)."""
    assert len(MODEL_TYPES) == 154 - 4
