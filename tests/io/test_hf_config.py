"""config.json files: the facts of real ones, as published, give the same layers as the presets."""

from __future__ import annotations

import json
from pathlib import Path

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
    with pytest.raises(kvcalc.UnknownArchitectureError, match="unknown model_type 'evil'"):
        kvcalc.load(tmp_path)


# How a checkpoint was quantised -------------------------------------------------------------------------------------

MODELOPT = {"producer": {"name": "modelopt", "version": "0.29.0"}, "quantization": {"quant_algo": "NVFP4"}}


def checkpoint(folder: Path, quantisation: object = None, **fields: object) -> Path:
    """A folder of a checkpoint: config.json with more fields, and beside it how it was quantised, if that is said."""
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4}
    (folder / "config.json").write_text(
        json.dumps(config | {"max_position_embeddings": 2048, "vocab_size": 10} | fields)
    )
    if quantisation is not None:
        (folder / "hf_quant_config.json").write_text(json.dumps(quantisation))
    return folder


def with_cache(algorithm: str | None) -> dict[str, object]:
    return {**MODELOPT, "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": algorithm}}


@pytest.mark.parametrize(
    ("quantisation", "fields", "kv_dtype"),
    [
        (with_cache("FP8"), {}, "fp8"),
        (with_cache("FP8"), {"quantization_config": None}, "fp8"),
        (with_cache("NVFP4"), {}, "nvfp4"),
        (with_cache(None), {}, ""),
        (MODELOPT, {}, ""),
        (with_cache("FP8"), {"quantization_config": {"quant_method": "modelopt", "kv_cache_scheme": None}}, ""),
        (None, {}, ""),
    ],
)
def test_a_checkpoint_says_how_its_cache_is_quantised_beside_its_config(tmp_path, quantisation, fields, kv_dtype):
    """As ModelOpt up to 0.29 did, and where config.json says nothing of it."""
    folder = checkpoint(tmp_path, quantisation, **fields)
    for source in (folder, folder / "config.json", str(folder)):
        model = kvcalc.load(source)
        assert model.published.kv_dtype == kv_dtype
        assert not any("does not know" in note for note in model.notes)


def test_an_engine_says_in_which_format_it_stores_the_cache(tmp_path, cli):
    """Half of 16 bits, and every report names the format that is used."""
    folder = checkpoint(tmp_path, with_cache("FP8"))
    declared, plain = kvcalc.load(folder), kvcalc.load(json.loads((folder / "config.json").read_text()))
    size = kvcalc.size(declared, tokens=160, engine="vllm")
    assert size.kv_dtype == "fp8_e4m3"
    assert "the checkpoint declares its cache fp8_e4m3, which kv_cache_dtype=auto follows" in size.notes
    assert 2 * size.total_bytes == kvcalc.size(plain, tokens=160, engine="vllm").total_bytes
    assert kvcalc.size(plain, tokens=160, engine="vllm").kv_dtype == "bf16"
    assert kvcalc.size(plain, tokens=160, engine="vllm", kv_dtype="fp8").kv_dtype == "fp8"
    asked = {"kv_cache_dtype": "bfloat16"}
    assert kvcalc.size(declared, tokens=160, engine="vllm", engine_settings=asked).kv_dtype == "bf16"
    in_float32 = {"dtype": "float32"}
    assert kvcalc.size(plain, tokens=160, engine="vllm", engine_settings=in_float32).kv_dtype == "fp32"
    fit = json.loads(cli(f"fit -m {folder} --gpu h100 --weights 1GB -t 1000 --engine vllm --format json").stdout)
    assert fit["workload"]["kv_dtype"] == "fp8_e4m3"


def test_a_file_beside_a_config_that_cannot_be_read_is_named(tmp_path):
    checkpoint(tmp_path)
    (tmp_path / "hf_quant_config.json").write_text("{")
    with pytest.raises(kvcalc.InvalidFileError, match=r"hf_quant_config\.json"):
        kvcalc.load(tmp_path)


# What engines read of it beside the cache -------------------------------------------------------------------------------


def test_lengths_are_told_by_the_fields_that_name_them():
    """A class's own name of max_position_embeddings is that one; the smallest is the longest sequence of all."""
    lengths = {"max_position_embeddings": 32_768, "seq_length": 8192}
    published = kvcalc.load({"model_type": "llama", **LLAMA, **lengths}).published
    assert (dict(published.lengths), published.longest_tokens) == (lengths, 8192)
    gpt2 = kvcalc.load({"model_type": "gpt2", "n_layer": 4, "n_head": 8, "n_embd": 512, "n_positions": 1024}).published
    assert gpt2.lengths == (("max_position_embeddings", 1024),)


def test_a_vision_tower_is_told_with_its_size():
    text = {"model_type": "qwen2", "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2}
    text |= {"hidden_size": 512}
    seeing = {"model_type": "qwen2_vl", "text_config": text, "vision_config": {"depth": 32, "hidden_size": 1280}}
    assert kvcalc.load(seeing).published.vision == (None, 1280)
    assert kvcalc.load(text).published.vision is None


def test_layers_of_gemma_4_that_share_a_cache_read_one_of_their_kind():
    facts = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "hidden_size": 2560}
    kinds = ["sliding_attention", "full_attention"] * 3
    model = kvcalc.load(
        {"model_type": "gemma4_text", "num_hidden_layers": 6, "num_kv_shared_layers": 4, "layer_types": kinds}
        | {"sliding_window": 512, **facts}
    )
    assert [(group.name, group.layers) for group in model.groups] == [
        *[("sliding", (0,)), ("full", (1,)), ("shared-sliding", (2, 4)), ("shared", (3, 5))]
    ]
    assert [part.reads_sliding for group in model.groups[2:] for part in group.parts] == [True, False]
