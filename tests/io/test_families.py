"""What families make of config.json files in each spelling, and what they refuse: by hand, from the published rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kvcalc
from kvcalc.io import hf_config
from kvcalc.io.hf_config import family_files, known_model_types

PLAIN = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "hidden_size": 512}
LATENT = {**PLAIN, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16}
KDA = {"num_heads": 4, "head_dim": 8, "short_conv_kernel_size": 4}
ROW = 2 * 2 * 64  # elements of one token of a layer of PLAIN
TOKENS = 100
BF16, FP32 = 2, 4


def of(model_type: str, base=PLAIN, **fields) -> dict:
    return {"model_type": model_type, **base, **fields}


def layers(rows: int) -> int:
    """Bytes of PLAIN's layers that hold so many tokens together."""
    return rows * ROW * BF16


KDA_STATE = 4 * 8 * 8 * FP32 + 3 * 4 * 8 * 3 * BF16  # recurrent state, and 3 columns of q, k and v
MAMBA_STATE = 8 * 16 * 32 * FP32 + (8 * 16 + 2 * 2 * 32) * 3 * BF16
MAMBA = {"mamba_num_heads": 8, "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 32, "conv_kernel": 4}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 16}
DELTA_STATE = 4 * 8 * 16 * FP32 + (2 * 2 * 8 + 4 * 16) * 3 * BF16

SPELLINGS = {
    # layers that run several times, and cache each time
    "dory, attention and mlp apart": (
        of("dory", num_hidden_layers=8, n_input_layers=2, n_recurrent_layers=4, n_output_layers=2, n_recurrent_loops=3,
           layer_types=["full_attention", "mlp"] * 4),
        layers((4 + 2 * 2) * TOKENS),
    ),
    "dory, the last loop alone": (
        of("dory", n_input_layers=1, n_output_layers=1, recurrent_kv_cache_mode="last_loop", sliding_window=10),
        layers(3 * 10 + TOKENS),
    ),
    "inkling2, a loop as published": (
        of("inkling2_loop_text", conv_kernel_size=1, sliding_window_size=10, swa_num_attention_heads=8, swa_num_key_value_heads=2,
           swa_head_dim=64, loop_config={"core_start": 1, "core_end": 3, "num_passes": 3}),
        layers((4 + 2 * 2) * 10),
    ),
    "lara, windows in two of five": (
        of("lara_mini", num_hidden_layers=5, sliding_window=10, linear_conv_kernel_dim=4, **DELTA),
        layers(2 * 10 + TOKENS) + 2 * DELTA_STATE,
    ),
    "sarvam, a head_dim of its latent": (of("sarvam_mla", LATENT, head_dim=40), 4 * TOKENS * 40 * BF16),
    # a window of nothing, and none at all
    "mistral, window": (of("mistral", sliding_window=10), layers(4 * 10)),
    "mistral, window null": (of("mistral", sliding_window=None), layers(4 * TOKENS)),
    "phi3, window longer than the text": (of("phi3", sliding_window=2047), layers(4 * TOKENS)),
    "qwen2, window switched off": (of("qwen2", sliding_window=10, use_sliding_window=False), layers(4 * TOKENS)),
    "qwen2, window null": (of("qwen2", sliding_window=None, use_sliding_window=True), layers(4 * TOKENS)),
    "gpt_oss, layer_types": (
        of("gpt_oss", sliding_window=10, layer_types=["sliding_attention", "full_attention"] * 2),
        layers(2 * 10 + 2 * TOKENS),
    ),
    "gpt_oss, without them": (of("gpt_oss", sliding_window=10), layers(2 * 10 + 2 * TOKENS)),
    "exaone4, letters": (of("exaone4", sliding_window=10, sliding_window_pattern="LLG"), layers(3 * 10 + TOKENS)),
    "exaone4, a number": (of("exaone4", sliding_window=10, sliding_window_pattern=2), layers(2 * 10 + 2 * TOKENS)),
    "cohere2, a number": (of("cohere2", sliding_window=10, sliding_window_pattern=4), layers(3 * 10 + TOKENS)),
    "llama4, one in four without rotary positions is full": (
        of("llama4_text", attention_chunk_size=64),
        layers(3 * 64 + TOKENS),
    ),
    # the text part in its section, under other names, or flat on top
    "a section": ({"model_type": "llava", "text_config": of("llama")}, layers(4 * TOKENS)),
    "a section without its type": ({"model_type": "mistral3", "text_config": PLAIN}, layers(4 * TOKENS)),
    "llm_config": ({"model_type": "internvl_chat", "llm_config": of("qwen2")}, layers(4 * TOKENS)),
    "thinker, then text": (
        {"model_type": "qwen2_5_omni", "thinker_config": {"text_config": of("qwen2_5_omni_text")}},
        layers(4 * TOKENS),
    ),
    "flat, as Qwen2-VL was published": (of("qwen2_vl", vision_config={"depth": 32}), layers(4 * TOKENS)),
    # other names of the same facts
    "gpt2's names": ({"model_type": "gpt2", "n_layer": 4, "n_head": 8, "n_embd": 512}, layers(4 * 4 * TOKENS)),
    "gpt2 by the usual names": (
        {"model_type": "gpt2", "num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 512},
        layers(4 * 4 * TOKENS),
    ),
    "mpt's names": ({"model_type": "mpt", "n_layers": 4, "n_heads": 8, "d_model": 512}, layers(4 * 4 * TOKENS)),
    "dbrx's section": (
        {"model_type": "dbrx", "n_layers": 4, "n_heads": 8, "d_model": 512, "attn_config": {"kv_n_heads": 2}},
        layers(4 * TOKENS),
    ),
    "chatglm's groups": (
        of("chatglm", {}, num_layers=4, num_attention_heads=8, kv_channels=64, hidden_size=512)
        | {"multi_query_attention": True, "multi_query_group_num": 2},
        layers(4 * TOKENS),
    ),
    "chatglm without them": (
        of("chatglm", {}, num_layers=4, num_attention_heads=8, kv_channels=64, hidden_size=512),
        layers(4 * 4 * TOKENS),
    ),
    # layers that differ, as published and as saved
    "nemotron_h, letters": (
        of("nemotron_h", **MAMBA, hybrid_override_pattern="M*-E"),
        MAMBA_STATE + layers(TOKENS),
    ),
    "nemotron_h, layer by layer": (
        of("nemotron_h", **MAMBA, layers_block_type=["mamba", "attention", "mlp", "moe"]),
        MAMBA_STATE + layers(TOKENS),
    ),
    "kimi_linear, lists from 1": (
        of("kimi_linear", LATENT, linear_attn_config={**KDA, "kda_layers": [1, 2, 4], "full_attn_layers": [3]}),
        3 * KDA_STATE + TOKENS * (32 + 8) * BF16,
    ),
    "qwen3_next, every fourth": (
        of("qwen3_next", **DELTA, linear_conv_kernel_dim=4, full_attention_interval=4),
        3 * DELTA_STATE + layers(TOKENS),
    ),
    "qwen3_next, layer_types": (
        of("qwen3_next", **DELTA, linear_conv_kernel_dim=4, layer_types=["linear_attention", "full_attention"] * 2),
        2 * DELTA_STATE + layers(2 * TOKENS),
    ),
    "lfm2, indices": (
        of("lfm2", full_attn_idxs=[1, 3], conv_L_cache=3),
        2 * 512 * 2 * BF16 + layers(2 * TOKENS),
    ),
    "gemma3n, the last two share": (
        of("gemma3n_text", num_kv_shared_layers=2, sliding_window=10, layer_types=["sliding_attention"] * 4),
        layers(2 * 10),
    ),
    "deepseek_v4, ratios": (
        of("deepseek_v4", compress_ratios=[0, 0, 0, 0], sliding_window=10, head_dim=64),
        4 * 10 * 64 * BF16,
    ),
    "nemotron-nas, its blocks": (
        of("nemotron-nas", block_configs=[{"attention": {"n_heads_in_group": n, "no_op": n is None}} for n in (4, 8, None, 2)]),
        layers(TOKENS) // 2 * (2 + 1 + 0 + 4),
    ),
    "mimo-like heads by layer": (
        of("gemma4_text", sliding_window=10, layer_types=["full_attention"] * 4, per_layer_config={"1": {"num_key_value_heads": 4}}),
        layers(5 * TOKENS),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPELLINGS)
def test_every_spelling_is_read(case):
    config, total_bytes = SPELLINGS[case]
    assert kvcalc.size(kvcalc.load(config), tokens=TOKENS).total_bytes == total_bytes


REFUSED = {
    "layers of Reformer that nobody knows": (
        {"model_type": "reformer", "hidden_size": 64, "attn_layers": ["local", "global"]},
        "attn_layers: attn_layers must name each layer local or lsh, not ['local', 'global']",
    ),
    "a recurrent section that keeps another loop": (
        of("dory", n_input_layers=1, n_output_layers=1, recurrent_kv_cache_mode="first_loop"),
        "recurrent_kv_cache_mode: recurrent_kv_cache_mode must be per_loop or last_loop, not 'first_loop'",
    ),
    "sections that do not add up": (
        of("dory", n_input_layers=1, n_recurrent_layers=1, n_output_layers=1),
        "num_hidden_layers: num_hidden_layers (4) must be n_input_layers (1) + n_recurrent_layers (1) + n_output_layers (1)",
    ),
    "more loops than anybody has": (
        of("dory", n_input_layers=1, n_output_layers=1, n_recurrent_loops=9_999),
        "n_recurrent_loops: 9,999 loops give more than 10,000 layers",
    ),
    "more passes than anybody makes": (
        of("inkling2_loop_text", loop_layer_index_start=1, loop_layer_index_end=4, loop_num_passes=9_999),
        "loop_num_passes: 29,998 cached layers exceed the limit of 10,000",
    ),
    "layers that nobody knows": (
        of("qwen3", layer_types=["full_attention"] * 3 + ["diagonal"]),
        "layer_types: layer_types names 'diagonal'; known: full_attention",
    ),
    "layer_types shorter than the layers": (
        of("qwen3", layer_types=["full_attention"] * 3),
        "layer_types: layer_types has 3 entries, but num_hidden_layers is 4",
    ),
    "a latent without its rotary key": (
        of("kimi_k2", PLAIN, kv_lora_rank=32),
        "model: qk_rope_head_dim is missing",
    ),
    "a window of less than nothing": (of("mistral", sliding_window=-5), "sliding_window must be at least 1, not -5"),
    "a window in words": (of("mistral", sliding_window="4k"), "sliding_window must be a whole number, not '4k'"),
    "an inner width in words, of which heads have a share": (
        of("falcon_h1", mamba_d_ssm="wide", mamba_d_head="auto", mamba_n_heads=4),
        "mamba_d_ssm: mamba_intermediate_size must be a whole number, not 'wide'",
    ),
    "all layers share": (
        of("gemma3n_text", num_kv_shared_layers=4),
        "num_kv_shared_layers: num_kv_shared_layers (4) leaves none of the 4 layers with a cache to share",
    ),
    "an override of a layer that is not there": (
        of("gemma4_text", per_layer_config={"7": {"head_dim": 8}}),
        "per_layer_config.7: '7' is not a layer of 0 to 3",
    ),
    "an override that is a list": (
        of("gemma4_text", per_layer_config={"1": {"head_dim": [3]}}),
        "head_dim must be a whole number, not [3]",
    ),
    "too few flags": (
        of("llama4_text", no_rope_layers=[1, 0]),
        "no_rope_layers: no_rope_layers must be 4 flags of 0 or 1 (num_hidden_layers), not [1, 0]",
    ),
    "too few indexers": (
        of("glm_moe_dsa", LATENT, index_head_dim=8, indexer_types=["full"]),
        "indexer_types: indexer_types must name 4 layers (num_hidden_layers) full or shared, not 1",
    ),
    "an attention layer out of range": (
        of("lfm2", full_attn_idxs=[9]),
        "full_attn_idxs: full_attn_idxs must list layers from 0 to 3, not [9]",
    ),
    "another one": (
        of("bamba", attn_layer_indices=[4]),
        "attn_layer_indices: attn_layer_indices must list layers from 0 to 3, not [4]",
    ),
    "ratios that nobody compresses by": (
        of("deepseek_v4", compress_ratios=[1, 2, 3, 4]),
        "compress_ratios: compress_ratios must name 4 layers (num_hidden_layers) 0, 4 or 128, not [1, 2, 3, 4]",
    ),
    "KDA layers out of range": (
        of("kimi_linear", LATENT, linear_attn_config={**KDA, "kda_layers": [1, 9], "full_attn_layers": [3]}),
        "linear_attn_config.kda_layers: kda_layers must list layers from 1 to 4, not 9",
    ),
    "a layer in neither list": (
        of("kimi_linear", LATENT, linear_attn_config={**KDA, "kda_layers": [1, 2], "full_attn_layers": [4]}),
        "linear_attn_config.kda_layers: layer 3 is in neither list",
    ),
    "a letter that is no block": (
        of("nemotron_h", hybrid_override_pattern="MX*-"),
        "hybrid_override_pattern: hybrid_override_pattern must be letters of M, *, - and E, not 'MX*-'",
    ),
    "a state of no width": (of("jamba", mamba_expand=0), "mamba_expand: mamba_expand must be at least 1, not 0"),
    "a factor below 0": (
        {"model_type": "xlstm", "num_hidden_layers": 2, "num_heads": 4, "hidden_size": 64, "qk_dim_factor": -1},
        "qk_dim_factor: qk_dim_factor must be a number above 0, not -1",
    ),
    "too few sources": (
        of("mistral_large4_text", LATENT, kv_source_layers=[0]),
        "kv_source_layers: kv_source_layers has 1 entries, but num_hidden_layers is 4",
    ),
    "a source that comes later": (
        of("mistral_large4_text", LATENT, kv_source_layers=[0, 1, 3, 3]),
        "kv_source_layers: kv_source_layers must name layers from 0 up to the layer itself, not [0, 1, 3, 3]",
    ),
    "a number for a list": (
        {"model_type": "mllama", "text_config": {**PLAIN, "cross_attention_layers": 3}},
        "text_config.cross_attention_layers: cross_attention_layers must be a list of layers, not 3",
    ),
    "blocks that nobody knows": (
        of("recurrent_gemma", block_types=["attn"]),
        "block_types: block_types must be a list of recurrent and attention, not ['attn']",
    ),
    "too few blocks": (
        of("nemotron-nas", block_configs=[1]),
        "block_configs: block_configs must describe 4 layers (num_hidden_layers), not [1]",
    ),
    "types without their number": (
        {"model_type": "gpt_neo", "num_layers": 4, "num_heads": 8, "hidden_size": 512, "attention_types": "global"},
        "attention_types: attention_types must be like [[['global', 'local'], 12]], not 'global'",
    ),
    "more cycles than layers can be": (
        of("hrm_text", H_cycles=5000, L_cycles=5000),
        "H_cycles: 100,020,000 cached layers exceed the limit of 10,000",
    ),
    "no layers": ({"model_type": "reformer", "hidden_size": 64, "attn_layers": None}, "model: attn_layers is null"),
    "too few flags of MiniMax": (
        of("minimax", attn_type_list=[0, 1]),
        "attn_type_list: attn_type_list must be 4 flags of 0 or 1 (num_hidden_layers), not [0, 1]",
    ),
    "a pair in words": (
        {"model_type": "t5", "is_encoder_decoder": "yes"},
        "is_encoder_decoder: must be true or false, not 'yes'",
    ),
    "a section that is none": (
        {"model_type": "gemma3", "text_config": 5},
        "text_config: must be a mapping of names to values, not 5",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_contradicts_itself_is_refused_by_name(case):
    config, message = REFUSED[case]
    with pytest.raises(kvcalc.InvalidValueError) as caught:
        kvcalc.load(config)
    assert message in str(caught.value)
    assert caught.value.help


NOTED = {
    "hidden states of a pass that are not kept": (
        {"model_type": "xlnet", "d_model": 64, "n_layer": 3, "n_head": 4, "mem_len": 9, "reuse_len": 6},
        "reuse_len 6: transformers keeps only the first 6 hidden states of each pass; here all are counted",
    ),
    "a default that decides": (
        of("llama", {k: v for k, v in PLAIN.items() if k != "num_hidden_layers"}),
        "missing in the config, so the defaults of llama apply: num_hidden_layers 32",
    ),
    "a field that may decide": (
        of("llama", kv_sharing_pattern="ABAB"),
        "fields unknown for llama, ignored: kv_sharing_pattern",
    ),
    "a letter too many": (
        of("qwen2", {k: v for k, v in PLAIN.items() if k != "num_hidden_layers"}, num_hidden_layer=2),
        "fields unknown for qwen2, ignored: num_hidden_layer (num_hidden_layers?)",
    ),
    "in a section": (
        of("kimi_linear", LATENT, linear_attn_config={**KDA, "kda_layers": [1, 2, 4], "full_attn_layers": [3], "conv_size": 3}),
        "fields unknown for kimi_linear, ignored: linear_attn_config.conv_size",
    ),
    "in one layer": (
        of("gemma4_text", per_layer_config={"1": {"head_dims": 32}}),
        "fields unknown for gemma4_text, ignored: head_dims (head_dim?)",
    ),
    "the section itself": (
        {"model_type": "llava", "text_confg": of("llama")},
        "fields unknown for llama, ignored: text_confg (text_config?)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTED)
def test_what_was_not_understood_is_said(case):
    config, note = NOTED[case]
    assert note in " ".join(kvcalc.load(config).notes)


def test_what_steers_no_cache_is_not_mentioned():
    harmless = {"use_cache": True, "vocab_size": 32000, "rope_theta": 1e6, "attention_bias": False, "num_experts": 8}
    assert kvcalc.load(of("llama", **harmless)).notes == ()


@pytest.mark.parametrize(("assume", "layer_elements"), [("gqa", 2 * 2 * 64), ("mha", 2 * 8 * 64), ("mla", 32 + 8)])
def test_an_unknown_family_is_read_as_what_the_user_says_and_the_output_says_so(assume, layer_elements):
    config = of("brandnew", LATENT)
    if assume == "mha":
        config["num_key_value_heads"] = None
    model = kvcalc.load(config, assume=assume)
    assert kvcalc.size(model, tokens=1).total_bytes == 4 * layer_elements * BF16
    assert any("--assume said so" in note for note in model.notes)


def test_an_assumption_that_the_config_contradicts_is_refused():
    with pytest.raises(
        kvcalc.InvalidValueError, match=r"num_key_value_heads \(2\), which differs from num_attention_heads \(8\)"
    ):
        kvcalc.load(of("brandnew"), assume="mha")


def test_an_assumption_that_nobody_can_make_is_refused():
    with pytest.raises(kvcalc.UnknownNameError, match="no assumption is called 'vit'"):
        kvcalc.load(of("brandnew"), assume="vit")


def test_each_section_of_a_model_has_a_type_that_is_read():
    table = json.loads((Path(hf_config.__file__).parent / "model_types.json").read_text())
    assert {entry.get("section_type", name) for name, entry in table.items()} <= table.keys()


def test_a_model_of_patches_is_refused_by_its_type():
    for config in ({"model_type": "blt"}, {"model_type": "blt", "decoder_config": PLAIN}):
        with pytest.raises(kvcalc.UnknownArchitectureError, match="blt"):
            kvcalc.load(config)


def test_each_type_is_read_by_one_family():
    types = [model_type for module in family_files().values() for model_type in module.MODEL_TYPES]
    assert len(types) == len({*types})
    assert {*types} <= {*known_model_types()}


SETTINGS = {
    "cache": ("llama-3-70b", {"cache": "paged"}, "cache must be one of default, static, quantized_fp8, quantized_quanto, not 'paged'"),
    "nbits": ("llama-3-70b", {"nbits": 8}, "nbits must be one of 2, 4, not 8"),
    "nbits, not a whole number": ("llama-3-70b", {"nbits": 4.0}, "nbits must be one of 2, 4, not 4.0"),
    "num_beams": ("llama-3-70b", {"num_beams": 0}, "num_beams must be at least 1, not 0"),
    "decode_steps": ("llama-3-70b", {"decode_steps": -1}, "decode_steps must be at least 0, not -1"),
    "prompt_tokens": ("llama-3-70b", {"prompt_tokens": 2.5}, "prompt_tokens must be a whole number, not 2.5"),
    "encoder_tokens": ("t5-large", {"encoder_tokens": True}, "encoder_tokens must be a whole number, not True"),
    "version": ("llama-3-70b", {"transformers_version": "new"}, "transformers_version must be a version, not 'new'"),
    "a name": ("llama-3-70b", {"beams": 2}, "no setting of the engine transformers is called 'beams'"),
    "a window in a quantised cache": ("gpt-oss-20b", {"cache": "quantized_fp8"}, "sliding layers keep k (last 127), and only full attention can be quantised"),
    "an index in a quantised cache": ("deepseek-v3.2", {"cache": "quantized_fp8"}, "all layers keep index_k (every token), and only full attention can be quantised"),
    "compression in a static cache": ("deepseek-v4-pro", {"cache": "static"}, "transformers has no StaticCache for deepseek_v4"),
    "groups that do not fit": ("llama-3-70b", {"cache": "quantized_quanto", "q_group_size": 100}, "quanto cannot group the 1024 elements of k by q_group_size 100"),
    "an encoder of unknown length": ("t5-large", {}, "this model has cross-attention, and the number of its encoder's tokens is unknown"),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_what_transformers_cannot_do_is_refused(case):
    model, settings, message = SETTINGS[case]
    with pytest.raises(kvcalc.KvcalcError) as caught:
        kvcalc.size(kvcalc.load(model), tokens=1000, engine="transformers", engine_settings=settings)
    assert message in str(caught.value)
    assert caught.value.help


def test_a_setting_of_none_is_the_default():
    model = kvcalc.load("llama-3-70b")
    plain = kvcalc.size(model, tokens=1000, engine="transformers")
    given = {"cache": None, "num_beams": None, "nbits": None, "prompt_tokens": None, "encoder_tokens": None}
    assert kvcalc.size(model, tokens=1000, engine="transformers", engine_settings=given) == plain


@pytest.mark.parametrize("name", ["glm-5.2", "glm-5.3"])
def test_the_draft_layer_of_glm_5_has_an_indexer_of_its_own(name):
    """79 x 656 + 22 x 132 bytes in vLLM's fp8, 79 x 1,152 + 22 x 256 in 16 bit: local-inference-lab/vllm#82."""
    model = kvcalc.load(name, mtp=True)
    assert kvcalc.size(model, tokens=64, kv_dtype="fp8", engine="vllm").total_bytes == 64 * 54_728
    assert kvcalc.size(model, tokens=1).total_bytes == 96_640


def test_the_draft_layer_of_a_config_that_shares_indexers_has_one_of_its_own():
    config = {
        "model_type": "glm_moe_dsa",
        "num_hidden_layers": 2,
        "indexer_types": ["full", "shared"],
        "num_nextn_predict_layers": 1,
        "num_attention_heads": 64,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 192,
        "v_head_dim": 256,
        "index_head_dim": 128,
    }
    labels = [group.label for group in kvcalc.load(config, mtp=True).groups]
    assert labels == ["MLA 512+64 + indexer 128", "MLA 512+64", "MLA 512+64 + indexer 128"]
