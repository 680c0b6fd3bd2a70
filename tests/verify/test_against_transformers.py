"""`kvcalc verify --against transformers`: the library's own classes, run, beside the prediction; a wrong one is noticed.

Full sizes run on the meta device, which takes no memory. `KVCALC_CONFIGS=FOLDER pytest -m peers` runs every config.json
of a folder so.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import kvcalc
from kvcalc.cache.slots.primitives import AtMost
from kvcalc.verify.against_transformers import against_transformers
from kvcalc.verify.transformers.rows import ranges

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]  # warnings of the libraries are theirs

TINY = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 128}
LLAMA = {**TINY, "model_type": "llama", "num_hidden_layers": 3, "num_key_value_heads": 2}
GPT_OSS = {
    **{**TINY, "model_type": "gpt_oss", "num_hidden_layers": 4, "num_key_value_heads": 2, "head_dim": 16},
    **{"sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
}
LFM2 = {
    **{**TINY, "model_type": "lfm2", "num_hidden_layers": 3, "num_key_value_heads": 2},
    **{"layer_types": ["conv", "full_attention", "conv"], "block_ff_dim": 96},
}
T5 = {
    **{"model_type": "t5", "is_encoder_decoder": True, "d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 96},
    **{"num_layers": 2, "num_decoder_layers": 3, "vocab_size": 128},
}
DEEPSEEK_V3 = {  # the published sizes
    **{"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128},
    **{"num_key_value_heads": 128, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128},
    **{"qk_nope_head_dim": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256},
    **{"num_experts_per_tok": 8, "first_k_dense_replace": 3, "n_group": 8, "topk_group": 4, "vocab_size": 129280},
}
GEMMA_3_27B = {
    **{"model_type": "gemma3_text", "hidden_size": 5376, "num_hidden_layers": 62, "num_attention_heads": 32},
    **{"num_key_value_heads": 16, "head_dim": 128, "intermediate_size": 21504, "sliding_window": 1024},
    **{"sliding_window_pattern": 6, "vocab_size": 262208},
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("config", "names"),
    [(LLAMA, ["3 all"]), (GPT_OSS, ["2 sliding", "2 full"]), (LFM2, ["2 conv", "1 full"]), (T5, ["3 all", "3 all"])],
    ids=["llama", "gpt_oss", "lfm2", "t5"],
)
def test_the_library_holds_what_was_predicted(config, names, device):
    result = against_transformers(
        config, tokens=20, sequences=2, decode_steps=3, device=device, encoder_tokens=7 if config is T5 else None
    )
    assert [row.group for row in result.tensors] == names
    assert result.equal, result.tensors
    assert result.predicted_bytes > 0
    assert result.against.endswith("of transformers 5.24.0")


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_the_cache_has_the_format_of_the_weights(dtype):
    result = against_transformers(LLAMA, tokens=5, kv_dtype=dtype, device="meta")
    assert result.equal
    assert [row.dtype for row in result.tensors] == [{"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[dtype]]


def test_a_row_says_what_each_of_its_layers_holds():
    (window, full) = against_transformers(GPT_OSS, tokens=20, device="meta").tensors
    assert window.layers == (0, 2)
    assert window.shapes == ((1, 2, 7, 16), (1, 2, 7, 16))
    assert (window.logical_bytes, window.storage_bytes) == (2 * 2 * 7 * 64, 2 * 2 * 8 * 64)  # a slot waits in memory
    assert full.shape == (1, 2, 20, 16)


def test_a_prompt_alone_leaves_all_of_it_in_memory():
    result = against_transformers(GPT_OSS, tokens=20, decode_steps=0, device="meta")
    assert result.equal
    assert [row.storage_bytes // row.logical_bytes for row in result.tensors] == [20 // 7, 1]


def test_a_wrong_prediction_is_noticed(monkeypatch):
    """A rule that forgets a token."""
    monkeypatch.setattr(AtMost, "_value", lambda self, numbers: min(*numbers, self.limit - 1))
    result = against_transformers(GPT_OSS, tokens=20, device="meta")
    assert not result.equal
    assert [row.verdict for row in result.tensors] == ["+256 bytes", "equal"]


def test_a_wrong_layer_is_named(monkeypatch):
    monkeypatch.setattr(
        "kvcalc.verify.against_transformers.load",
        lambda config: kvcalc.load({**config, "layer_types": ["full_attention", "full_attention", "conv"]}),
    )
    result = against_transformers(LFM2, tokens=20, device="meta")
    assert [row.group for row in result.tensors if not row.equal] == ["1 full (0)"]


def test_a_layer_too_few_is_noticed(monkeypatch):
    fewer = kvcalc.load({**LLAMA, "num_hidden_layers": 2})
    monkeypatch.setattr("kvcalc.verify.against_transformers.load", lambda _: fewer)
    result = against_transformers(LLAMA, tokens=20, device="meta")
    assert [(row.group, row.predicted_bytes, row.equal) for row in result.tensors][1] == ("not predicted", 0, False)


def test_the_table_names_class_and_version():
    (sheet,) = against_transformers(GPT_OSS, tokens=20, device="meta").sheets()
    assert sheet.title == "model, 20 tokens x 1 sequence, bf16, GptOssForCausalLM of transformers 5.24.0 on meta"
    assert sheet.lines[2].label == "memory behind" and sheet.lines[2].value.endswith("as predicted")


def test_plain_values_can_be_printed():
    data = json.loads(json.dumps(against_transformers(GPT_OSS, tokens=20, device="meta").to_dict()))
    assert data["tensors"][0]["layers"] == [0, 2]


@pytest.mark.parametrize(("config", "equal"), [(DEEPSEEK_V3, 70_272 * 300), (GEMMA_3_27B, 507_904 * 300)])
def test_full_size_without_memory(config, equal):
    result = against_transformers(config, tokens=300, device="meta")
    assert result.equal
    assert result.storage_bytes == equal


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kv_dtype": "fp8"}, "the weights' format, which cannot be fp8"),
        ({"device": "tpu"}, "device must be one of cpu, cuda, meta, not 'tpu'"),
        ({"decode_steps": -1}, "decode_steps must be a whole number of at least 0"),
        ({"tokens": 0}, "tokens must be at least 1"),
        ({"config": {"attention": "gqa"}}, "which this model does not have"),
        ({"config": Path("nowhere.json")}, "no such file"),
        ({"config": {**LLAMA, "model_type": "baichuan"}}, "has no class that generates text for model_type 'baichuan'"),
        ({"config": {**LLAMA, "hidden_act": "soft"}}, "cannot build LlamaForCausalLM: KeyError: 'soft'"),
        ({"config": T5}, "this model has cross-attention, and the number of its encoder's tokens is unknown"),
    ],
)
def test_what_cannot_be_run_is_an_error(given, message):
    with pytest.raises(kvcalc.KvcalcError) as error:
        against_transformers(**{"config": LLAMA, "tokens": 5, "device": "meta", **given})
    assert message in str(error.value)
    assert error.value.help
    assert "\n" not in str(error.value)


WIDE = {**GPT_OSS, "vocab_size": 20_000, "num_local_experts": 48, "intermediate_size": 500, "num_hidden_layers": 8}


def test_what_fits_is_run_as_it_is():
    result = against_transformers(GPT_OSS, tokens=20, memory_bytes=10**9)
    assert not any("made smaller" in note for note in result.notes)


def test_what_no_cache_depends_on_is_made_small_first():
    result = against_transformers(WIDE, tokens=20, memory_bytes=20_000_000)
    assert result.equal
    assert result.predicted_bytes == against_transformers(WIDE, tokens=20, device="meta").predicted_bytes
    assert result.notes[0] == (
        "shrunk to fit in memory: intermediate_size 500 -> 128 (1/3.9); vocab_size 20,000 -> 512 (1/39); "
        "num_local_experts 48 -> 32 (1/1.5); each layer's cache has its full size"
    )


def test_then_the_last_layers_go():
    result = against_transformers(WIDE, tokens=20, memory_bytes=6_000_000)
    assert result.equal
    assert [row.group for row in result.tensors] == ["2 sliding", "1 full"]
    assert "(1/1.5); the first 3 of 8 layers (1/2.6); each layer's cache" in result.notes[0]
    assert "all of them are predicted to take" in result.notes[0]


def test_one_layer_of_each_kind_has_to_fit():
    message = "at least 2 layers are needed to have one of each kind, and they need"
    with pytest.raises(kvcalc.KvcalcError, match=message) as error:
        against_transformers(WIDE, tokens=20, memory_bytes=1_000_000)
    assert "--device meta" in error.value.help


def test_a_class_that_makes_its_last_layer_full_is_cut_where_one_is():
    config = {**TINY, "model_type": "gemma4_text", "num_hidden_layers": 12, "num_key_value_heads": 2, "head_dim": 16}
    config |= {"global_head_dim": 32, "sliding_window": 8, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0}
    config |= {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 4}
    result = against_transformers(config, tokens=20, memory_bytes=900_000)
    assert result.equal
    assert sum(len(row.layers) for row in result.tensors) in (3, 6, 9)


def test_a_field_that_a_cache_depends_on_stays():
    mamba = {"model_type": "mamba", "hidden_size": 256, "num_hidden_layers": 4, "state_size": 16, "vocab_size": 20_000}
    result = against_transformers({**mamba, "intermediate_size": 512}, tokens=9, memory_bytes=10_000_000)
    assert result.equal
    assert "vocab_size 20,000 -> 512" in result.notes[0]
    assert "intermediate_size" not in result.notes[0]


def test_layers_are_named_by_their_ranges():
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"


FOLDER = os.environ.get("KVCALC_CONFIGS")
CONFIGS = sorted(path for path in Path(FOLDER).glob("*.json") if path.stem != "INDEX") if FOLDER else []


@pytest.mark.skipif(not CONFIGS, reason="KVCALC_CONFIGS names no folder of config.json files")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_real_config_at_full_size(path):
    try:
        result = against_transformers(path, tokens=1000, device="meta")
    except (kvcalc.NotApplicableError, kvcalc.UnknownArchitectureError) as error:
        pytest.skip(str(error))
    assert result.equal, [row for row in result.tensors if not row.equal]
