"""Types published outside transformers: each name is read by the rule whose name it is, in each spelling."""

from __future__ import annotations

import json

import pytest

import kvcalc
from kvcalc.io.families._names import ALIASES, PLAIN, SWITCHED, TOWERS
from kvcalc.io.hf_config import known_model_types

PLAIN_FIELDS = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 512}
ROW = 2 * 2 * 64  # elements of one token of a layer of PLAIN_FIELDS
TOKENS = 100
BF16, FP32 = 2, 4


def of(model_type: str, **fields) -> dict:
    return {"model_type": model_type, **PLAIN_FIELDS, **fields}


def bytes_of(config: dict) -> int:
    return kvcalc.size(kvcalc.load(config), tokens=TOKENS, kv_dtype="bf16").total_bytes


def layers(rows: int) -> int:
    return rows * ROW * BF16


@pytest.mark.parametrize("model_type", [*PLAIN, *SWITCHED])
def test_a_plain_type_caches_keys_and_values_of_its_heads(model_type):
    assert bytes_of(of(model_type)) == layers(4 * TOKENS)


@pytest.mark.parametrize("model_type", SWITCHED)
def test_a_window_that_is_switched_off_windows_nothing(model_type):
    assert bytes_of(of(model_type, sliding_window=10, use_sliding_window=False)) == layers(4 * TOKENS)


@pytest.mark.parametrize(("name", "alias"), ALIASES.items())
def test_an_alias_is_sized_as_the_type_it_names(name, alias):
    assert {name, alias.like} <= {*known_model_types()}
    assert name not in (other.like for other in ALIASES.values())


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_leads_to_a_type_that_is_read(name):
    assert TOWERS[name][1] in known_model_types()


SPELLINGS = {
    "telechat": (
        {"model_type": "telechat", "n_layer": 4, "n_head": 8, "num_key_value_heads": 2, "hidden_size": 512},
        4,
    ),
    "lille": ({"model_type": "lille-130m", "n_layer": 4, "n_head": 8, "n_kv_heads": 2, "n_embd": 512}, 4),
    "phi-msft": ({"model_type": "phi-msft", "n_layer": 4, "n_head": 8, "n_embd": 512}, 16),
    "phi-msft, MLX's names": ({"model_type": "phi-msft", "num_layers": 4, "num_heads": 8, "model_dim": 512}, 16),
    "step1": (of("step1") | {"num_attention_groups": 2}, 4),
    "step1 without groups": (
        {"model_type": "step1", "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512},
        2,
    ),
    "step3": (
        {
            "model_type": "step3_vl",
            "text_config": {"num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512, "head_dim": 128},
        },
        4,
    ),
    "plamo": ({"model_type": "plamo", "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512}, 2),
    "openelm": (
        {"model_type": "openelm", "num_transformer_layers": 3, "num_query_heads": [4, 4, 8], "head_dim": 64}
        | {"num_kv_heads": [1, 1, 2], "model_dim": 512},
        2,
    ),
    "afm7": (
        {"model_type": "afm7", "num_layers": 6, "num_kv_reuse_layers": 2, "num_heads": 8, "num_kv_heads": 2}
        | {"hidden_dim": 512},
        4,
    ),
    "Falcon 40B, first published": (
        {"model_type": "RefinedWeb", "n_layer": 4, "n_head": 8, "n_head_kv": 2, "hidden_size": 512},
        4,
    ),
    "Falcon 7B, first published": (
        {"model_type": "RefinedWebModel", "n_layer": 4, "n_head": 8, "multi_query": True, "n_embed": 512},
        2,
    ),
    "moondream3": (
        {"model_type": "moondream3", "config": {"text": {"n_layers": 4, "n_heads": 8, "n_kv_heads": 2, "dim": 512}}},
        4,
    ),
    "isaac, nested": ({"model_type": "isaac", "text_config": of("qwen3", head_dim=64)}, 4),
    "Grok-2": (of("git", architectures=["Grok1ForCausalLM"]), 4),
    "PanguEmbedded": (of("PanguEmbedded"), 4),
    "PanguProMoE": (of("PanguProMoE", head_dim=64, v_channels=64), 4),
    "unlimited-ocr": ({"model_type": "unlimited-ocr", "language_config": of("", use_mla=False)}, 4),
    "nanbeige": (of("nanbeige", num_loops=2), 8),
    "nanbeige, a loss for each loop": (of("nanbeige", loop_loss_weights=[1.0]), 8),
}
"""Configs and their layers of two KV heads."""


@pytest.mark.parametrize(("config", "number"), SPELLINGS.values(), ids=SPELLINGS)
def test_each_spelling_is_read(config, number):
    assert bytes_of(config) == layers(number * TOKENS)


WINDOWED = {
    "plamo3": (of("plamo3", head_dim=64, window_size=10, sliding_window_pattern=2), 2, 10),
    "plamo3, listed": (of("plamo3", interleaved_sliding_window=[10, 10, 10, None]), 1, 10),
    "plamo3, sliding_window first": (of("plamo3", window_size=20, sliding_window=10, sliding_window_pattern=2), 2, 10),
    "Pangu, one window": (of("PanguEmbedded", interleaved_sliding_window=10), 0, 10),
    "Pangu, listed": (of("PanguEmbedded", interleaved_sliding_window=[10, None]), 2, 10),
    "domyn_edge": (of("domyn_edge", window_sizes=[[9, 0], [9, 0], [9, 0], [-1, -1]]), 1, 10),
    "spark2_5": (of("spark2_5", head_dim=64, sliding_window=10), 1, 10),
    "iquest_q1": (
        of("iquest_q1", head_dim=64, sliding_window=10, num_hybrid_layers_block=1)
        | {"hybrid_layers_types_block": ["sliding_attention"] * 2, "last_layers_types": ["full_attention"]},
        2,
        10,
    ),
    "iquest_q1, switched off": (of("iquest_q1", head_dim=64, sliding_window=10, use_hybrid_layers=False), 4, 10),
    "solar": (of("solar", sliding_window=10), 0, 10),
}
"""Configs of four layers, how many of them are full, and the window of the others."""


@pytest.mark.parametrize(("config", "full", "window"), WINDOWED.values(), ids=WINDOWED)
def test_windows_are_read_where_the_type_names_them(config, full, window):
    assert bytes_of(config) == layers(full * TOKENS + (4 - full) * window)


def test_a_loop_after_the_first_keeps_its_window():
    config = of("iquestloopcoder", head_dim=64, loop_num=3, loop_window_size=10)
    assert bytes_of(config) == layers(4 * TOKENS + 2 * 4 * 10)


def test_domyn_edge_has_heads_of_its_own_by_layer():
    config = of("domyn_edge", window_sizes=[[9, 0]] * 3 + [[-1, -1]], per_layer_config={"3": {"head_dim": 128}})
    assert bytes_of(config) == layers(3 * 10 + 2 * TOKENS)


def test_rwkv7_keeps_a_state_for_each_head_and_two_inputs():
    config = {"model_type": "rwkv7", "num_hidden_layers": 4, "hidden_size": 64, "head_dim": 32}
    assert bytes_of(config) == 4 * (2 * 32 * 32 * FP32 + 2 * 64 * BF16)


def test_plamo2_takes_turns():
    config = of("plamo2", hidden_size_per_head=64, mamba_num_heads=4, mamba_d_state=16, mamba_d_conv=4, mamba_step=2)
    assert bytes_of(config) == layers(2 * TOKENS) + 2 * (4 * 64 * (16 * FP32 + 3 * BF16))


def test_plamo2_of_one_layer_is_attention():
    config = of("plamo2", hidden_size_per_head=64) | {"num_hidden_layers": 1}
    assert bytes_of(config) == layers(TOKENS)


def test_plamo2_without_mamba_is_attention():
    assert bytes_of(of("plamo2", hidden_size_per_head=64, mamba_enabled=False)) == layers(4 * TOKENS)


def test_baichuan_m1_keeps_the_last_key_and_value_beside_its_cache():
    config = of(
        "baichuan_m1", sliding_window=10, sliding_window_layers=[0, 1], conv_window=2, num_swa_key_value_heads=4
    )
    wide, narrow = 2 * 4 * 64, 2 * 2 * 64
    assert bytes_of(config) == BF16 * (2 * wide * (10 + 1) + 2 * narrow * (TOKENS + 1))


MISTAKES = {
    "an odd list of windows": (
        of("PanguEmbedded", interleaved_sliding_window=["x"]),
        "interleaved_sliding_window must",
    ),
    "windows of too few layers": (of("domyn_edge", window_sizes=[[9, 0]]), "window_sizes must have 4 pairs"),
    "no window at all": (of("domyn_edge"), "window_sizes must have 4 pairs"),
    "loops without end": (of("iquestloopcoder", loop_num=10**6), "cached layers exceed the limit of 10,000"),
    "loops that share": (
        of("nanbeige", num_loops=2, loop_share_kv=True),
        "the cache of layers with loop_share_kv is unknown",
    ),
    "loops that nobody counts": (of("nanbeige"), "num_loops is missing"),
    "heads of too few layers": (
        {"model_type": "openelm", "num_transformer_layers": 3, "num_query_heads": [4], "head_dim": 64},
        "num_query_heads must give the heads of 3 layers",
    ),
    "nothing but reused caches": (
        {"model_type": "afm7", "num_layers": 2, "num_kv_reuse_layers": 2, "num_heads": 8, "hidden_dim": 512},
        "leaves none of the 2 layers with a cache to reuse",
    ),
    "a width that is no divisor": (
        {"model_type": "rwkv7", "num_hidden_layers": 4, "hidden_size": 64, "head_dim": 48},
        "hidden_size (64) is not a multiple of head_dim (48)",
    ),
}


@pytest.mark.parametrize(("config", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_bad_field_is_named(config, message):
    with pytest.raises(kvcalc.InvalidValueError) as caught:
        kvcalc.load(config)
    assert message in str(caught.value)


DEEPSEEK_41 = of(
    "deepseek_v41_text", head_dim=64, sliding_window=10, index_head_dim=32, compress_ratios=[0, 2, 2, 1, 0]
)
WINDOWS = 4 * 10 * 64 * BF16  # of DEEPSEEK_41's four layers
ENTRY = (64 + 32) * BF16


def deepseek_41(**fields) -> dict:
    return {"model_type": "deepseek_v41", "text_config": {**DEEPSEEK_41, **fields}}


def test_deepseek_v4_1_keeps_entries_on_its_sources_alone():
    config = deepseek_41(kv_source_layer_ids=[1, 3], index_source_layer_ids=[1, 3])
    assert bytes_of(config) == WINDOWS + (TOKENS // 2 + TOKENS) * ENTRY


def test_deepseek_v4_1_waits_in_float32_with_an_open_group():
    config = deepseek_41(kv_source_layer_ids=[1, 3], index_source_layer_ids=[1, 3])
    size = kvcalc.size(kvcalc.load(config), tokens=TOKENS + 1, kv_dtype="bf16").total_bytes
    assert size == bytes_of(config) + ENTRY + 2 * 64 * FP32


def test_deepseek_v4_1_has_index_keys_where_a_source_is_one_of_the_index_too():
    config = deepseek_41(kv_source_layer_ids=[1, 3], index_source_layer_ids=[2, 3])
    assert bytes_of(config) == WINDOWS + TOKENS // 2 * 64 * BF16 + TOKENS * ENTRY


LATENT = {"kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16}
LING = of("bailing_hybrid", layer_group_size=2, head_dim=64, **LATENT)
LATENT_BYTES = 2 * TOKENS * (32 + 8) * BF16  # of LING's two layers with a latent


def test_ling_2_5_has_lightning_attention_and_no_convolution():
    config = LING | {"architectures": ["BailingMoeV2_5ForCausalLM"]}
    assert bytes_of(config) == LATENT_BYTES + 2 * 8 * 64 * 64 * FP32
    assert bytes_of(config) == bytes_of(LING)


def test_ling_3_has_kimi_delta_attention():
    config = LING | {"architectures": ["BailingMoeV3ForCausalLM"], "short_conv_kernel_size": 4}
    assert bytes_of(config) == LATENT_BYTES + 2 * 8 * (64 * 64 * FP32 + 3 * 64 * 3 * BF16)


def test_ling_linear_has_narrow_heads_and_ends_with_full_layers():
    config = of("bailing_moe_linear", layer_group_size=3, head_dim=128)
    full = 2 * TOKENS * 2 * ROW * BF16  # heads twice as wide
    assert bytes_of(config) == full + 2 * 8 * 64 * 64 * FP32


def test_minicpm_sala_repeats_its_mixers():
    config = of("minicpm_sala", mixer_types=["attn", "lightning"], lightning_nh=4, lightning_nkv=4)
    assert bytes_of(config) == layers(2 * TOKENS) + 2 * 4 * 64 * 64 * FP32


def test_jet_nemotron_has_values_of_their_own_width():
    jet = {"num_heads": 2, "head_dim": 8, "expand_v": 2.0, "conv_size": 4}
    config = of("jet_nemotron", layer_types=["jet", "attn", "jet", "swa"])
    config["efficient_attention_config"] = {"jet": jet, "swa": {"window_size": 10}}
    state = 2 * 8 * 16 * FP32 + (2 * 2 * 8 + 2 * 16) * 3 * BF16
    assert bytes_of(config) == layers(TOKENS + 10) + 2 * state


@pytest.mark.parametrize(
    "fields", [{"layer_types": ["linear_attention", "full_attention"] * 2}, {"full_attention_layers": [1, 3]}]
)
def test_gigachat_3_5_lists_its_layers_in_either_way(fields):
    config = {"model_type": "gigachat3_5", "num_hidden_layers": 4, **fields}
    state = 16 * 128 * 128 * FP32 + (2 * 8 * 128 + 16 * 128) * 3 * BF16
    assert bytes_of(config) == 2 * TOKENS * (512 + 64) * BF16 + 2 * state


def test_alice_ai_has_kimi_delta_attention_beside_plain_attention():
    heads = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    config = of(
        "alice_ai", layer_types=["linear_attention"] * 3 + ["full_attention"], linear_conv_kernel_dim=4, **heads
    )
    assert bytes_of(config) == layers(TOKENS) + 3 * 2 * (8 * 8 * FP32 + 3 * 8 * 3 * BF16)


MORE_MISTAKES = {
    "ratios of too few layers": (deepseek_41(compress_ratios=[2]), "compress_ratios must name 4 layers"),
    "a source that is no layer": (
        deepseek_41(kv_source_layer_ids=[9], index_source_layer_ids=[]),
        "kv_source_layer_ids must list layers from 0 to 3",
    ),
    "an unknown mixer": (of("minicpm_sala", mixer_types=["x"]), "mixer_types must name up to 4 layers"),
    "an unknown layer of Jet": (of("jet_nemotron", layer_types=["x"] * 4), "layer_types must name 4 layers"),
    "a value of no width": (
        of("jet_nemotron", layer_types=["jet"] * 4)
        | {"efficient_attention_config": {"jet": {"num_heads": 2, "head_dim": 8, "expand_v": 0, "conv_size": 4}}},
        "expand_v must be a number above 0, not 0",
    ),
    "full layers that are none": (
        {"model_type": "gigachat3_5", "full_attention_layers": [99]},
        "full_attention_layers must list layers from 0 to 11",
    ),
    "values of other heads": (
        of("alice_ai", layer_types=["linear_attention"] * 4, linear_num_key_heads=2, linear_num_value_heads=4),
        "linear_num_value_heads (4) must equal linear_num_key_heads (2) in KDA",
    ),
}


@pytest.mark.parametrize(("config", "message"), MORE_MISTAKES.values(), ids=MORE_MISTAKES)
def test_a_bad_field_of_a_hybrid_is_named(config, message):
    with pytest.raises(kvcalc.InvalidValueError) as caught:
        kvcalc.load(config)
    assert message in str(caught.value)


PARAMS = {"dim": 512, "n_layers": 4, "n_heads": 8, "n_kv_heads": 2, "head_dim": 64, "hidden_dim": 2048}


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({}, 4 * TOKENS),
        ({"sliding_window": 10}, 4 * 10),
        ({"sliding_window": [None, 10]}, 2 * TOKENS + 2 * 10),
        ({"vision_encoder": {"hidden_size": 1024, "num_hidden_layers": 24}}, 4 * TOKENS),
    ],
    ids=["plain", "one window", "windows by layer", "with a vision tower"],
)
def test_mistrals_own_format_is_read(fields, rows):
    assert bytes_of(PARAMS | fields) == layers(rows)


def test_mistrals_own_format_has_latents_too():
    assert bytes_of(PARAMS | LATENT) == 4 * TOKENS * (32 + 8) * BF16


def test_a_folder_with_mistrals_own_format_alone_is_read(tmp_path):
    (tmp_path / "params.json").write_text(json.dumps(PARAMS))
    model = kvcalc.load(tmp_path)
    assert (model.name, model.model_type) == (tmp_path.name, "mistral")


def test_a_bad_window_of_mistrals_own_format_is_named():
    with pytest.raises(kvcalc.InvalidValueError, match=r"sliding_window must be a window or a list of windows"):
        kvcalc.load(PARAMS | {"sliding_window": ["x"]})


def test_layers_with_ngrams_keep_the_inputs_of_their_convolution():
    config = {"model_type": "qwen4_exp", "text_config": of("qwen4_exp_text", head_dim=64, indexer_head_dim=32)}
    config["text_config"] |= {"hc_count": 2, "ngram_size": 3, "ple_conv_kernel_size": 4}
    with_ngrams = config | {"text_config": config["text_config"] | {"ple_layer_ids": [2]}}
    assert bytes_of(with_ngrams) == bytes_of(
        config | {"text_config": config["text_config"] | {"ple_layer_ids": []}}
    ) + (2 * 512 * 9 * BF16)


def test_ngrams_of_no_layer_are_refused():
    with pytest.raises(kvcalc.InvalidValueError, match="ple_layer_ids must list layers from 1 to 4"):
        kvcalc.load(of("qwen4_exp_text", ple_layer_ids=[5]))


def step5(**fields):
    return of("step5", num_attention_groups=2, head_dim=192, sliding_window=10, sparse_config={}) | fields


def test_step_5_summarises_regions_of_its_full_layers():
    row = 2 * 2 * 192 * BF16
    summaries = TOKENS // 8 * 256 + TOKENS % 8 * 2 * 256 * BF16
    assert bytes_of(step5()) == 2 * 10 * row + 2 * (TOKENS * row + summaries)
    assert bytes_of(step5(sparse_config={"enabled": False})) == 2 * (10 + TOKENS) * row


def test_step_5_lists_the_layers_that_draft_too():
    types = ["full_attention"] * 4 + ["sliding_attention"]
    model = kvcalc.load(step5(layer_types=types, num_nextn_predict_layers=1))
    assert [len(group.layers) for group in model.groups] == [4]


def test_step_5_without_a_sparse_config_is_refused():
    config = step5()
    del config["sparse_config"]
    with pytest.raises(kvcalc.InvalidValueError, match="sparse_config is missing"):
        kvcalc.load(config)
