"""config.json files: the facts of real ones, as published, give the same layers as the presets."""

from __future__ import annotations

import json

import pytest

import kvcalc
from kvcalc.io.hf_config import known_model_types

LLAMA = {"num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 8192}
DEEPSEEK = {
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "hidden_size": 7168,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
GEMMA3 = {
    "num_hidden_layers": 62,
    "num_attention_heads": 32,
    "num_key_value_heads": 16,
    "head_dim": 128,
    "sliding_window": 1024,
}
SCOUT = {
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "attention_chunk_size": 8192,
}
GPT_OSS = {
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "sliding_window": 128,
}
MISTRAL = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
FALCON = {
    "num_hidden_layers": 32,
    "num_attention_heads": 71,
    "hidden_size": 4544,
    "new_decoder_architecture": False,
    "multi_query": True,
}
TYPES = ["sliding_attention", "full_attention"]

SAME = [
    ("llama-3-70b", {"model_type": "llama", **LLAMA}),
    (
        "qwen2.5-72b",
        {
            "model_type": "qwen2",
            **LLAMA,
            "use_sliding_window": False,
            "sliding_window": 131072,
            "max_window_layers": 80,
        },
    ),
    ("deepseek-r1", {"model_type": "deepseek_v3", **DEEPSEEK}),
    ("kimi-k2", {"model_type": "kimi_k2", **DEEPSEEK, "num_attention_heads": 64}),
    (
        "gemma-3-27b",
        {
            "model_type": "gemma3",
            "text_config": {"model_type": "gemma3_text", **GEMMA3},
            "vision_config": {"num_hidden_layers": 27},
        },
    ),
    ("gemma-3-27b", {"model_type": "gemma3_text", **GEMMA3, "sliding_window_pattern": 6}),
    ("llama-4-scout", {"model_type": "llama4", "text_config": {"model_type": "llama4_text", **SCOUT}}),
    ("llama-4-scout", {"model_type": "llama4_text", **SCOUT, "no_rope_layers": [1, 1, 1, 0] * 12}),
    ("llama-4-scout", {"model_type": "llama4_text", **SCOUT, "no_rope_layers": []}),
    ("gpt-oss-20b", {"model_type": "gpt_oss", **GPT_OSS}),
    ("gpt-oss-20b", {"model_type": "gpt_oss", **GPT_OSS, "layer_types": TYPES * 12}),
    ("mistral-7b-v0.1", {"model_type": "mistral", **MISTRAL, "sliding_window": 4096}),
    ("mixtral-8x7b", {"model_type": "mixtral", **MISTRAL, "sliding_window": None}),
    ("falcon-7b", {"model_type": "falcon", **FALCON}),
]


@pytest.mark.parametrize(("preset", "config"), SAME, ids=lambda value: value if isinstance(value, str) else "")
def test_a_config_gives_the_layers_of_its_preset(preset, config):
    assert kvcalc.load(config).groups == kvcalc.load(preset).groups


def elements(config) -> int:
    return kvcalc.size(kvcalc.load(config), tokens=1, kv_dtype="int8").total_bytes


@pytest.mark.parametrize(
    ("config", "number"),
    [
        ({**FALCON, "multi_query": False}, 32 * 2 * 71 * 64),
        (
            {
                "num_hidden_layers": 60,
                "num_attention_heads": 128,
                "num_kv_heads": 8,
                "hidden_size": 8192,
                "new_decoder_architecture": True,
            },
            60 * 2 * 8 * 64,
        ),
    ],
)
def test_falcon_counts_its_kv_heads_by_its_switches(config, number):
    assert elements({"model_type": "falcon", **config}) == number


@pytest.mark.parametrize(
    ("model_type", "switches", "sliding"),
    [
        ("qwen2", {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 60}, 20),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 0}, 80),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 90}, 0),
        ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 60}, 80),
        ("qwen3", {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 60}, 0),
        ("llama", {"attention_chunk_size": 100}, 80),
    ],
)
def test_the_switches_decide_which_layers_slide(model_type, switches, sliding):
    model = kvcalc.load({"model_type": model_type, **LLAMA, **switches})
    layer_bytes = 2 * 8 * 128 * 2
    assert kvcalc.size(model, tokens=1000).total_bytes == layer_bytes * (sliding * 100 + (80 - sliding) * 1000)


def test_without_num_key_value_heads_each_query_head_has_its_own():
    config = {"model_type": "llama", **{k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}}
    assert kvcalc.load(config).groups[0].label == "MHA"


def test_an_explicit_head_dim_wins_over_hidden_size():
    assert elements({"model_type": "llama", **LLAMA, "head_dim": 256}) == 80 * 2 * 8 * 256


def test_the_folder_of_a_model_is_read_and_gives_it_its_name(tmp_path):
    folder = tmp_path / "My-Model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **LLAMA}))
    for path in (folder, folder / "config.json", str(folder)):
        assert kvcalc.load(path).name == "My-Model"


def test_each_factor_says_which_field_it_came_from(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", **LLAMA}, indent=1))
    origins = kvcalc.load(file).groups[0].origins
    assert str(origins["num_kv_heads"]) == f"{file}:5 num_key_value_heads"
    assert str(origins["head_dim"]) == f"{file}:6 hidden_size / num_attention_heads"


def test_no_model_type_is_claimed_by_two_families():
    types = known_model_types()
    assert sorted(set(types)) == types


def test_remote_code_is_never_run(tmp_path):
    (tmp_path / "modeling_evil.py").write_text("raise SystemExit('ran')")
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "modeling_evil.Config"}, **LLAMA}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(kvcalc.UnknownArchitectureError, match="model_type 'evil' is not a family that kvcalc knows"):
        kvcalc.load(tmp_path)
