"""Tensors counted from a config.json by arithmetic: those of transformers' classes, or none and the reason."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from subprocess import run

import pytest

from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.errors.extras import install
from kvcalc.io.documents import Document
from kvcalc.io.hf_config import known_model_types, parse_hf_config
from kvcalc.io.loading import load, load_path
from kvcalc.io.parameters.classes import CLASSES
from kvcalc.io.weights import find_weights
from kvcalc.io.weights.inventories import inventory_of, preset_config, preset_files
from kvcalc.methods import apply_method

MISTRAL = {
    **{"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 5120, "head_dim": 128},
    **{"intermediate_size": 14336, "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8},
    **{"vocab_size": 131072, "max_position_embeddings": 131072, "torch_dtype": "bfloat16", "rope_theta": 1e6},
}
"""Mistral-Nemo's sizes, as a config of one's own."""


def own(values):
    return parse_hf_config(Document("config.json", values), "own").checkpoint


def configs():
    """Configs of shipped presets whose model type has a row."""
    for path in preset_files():
        with suppress(KvcalcError):  # fields that decide the cache alone are left out of some
            config = preset_config(path.stem)
            if config and own(config).inventory is not None:
                yield path.stem


COUNTED = list(configs())


def test_most_families_are_counted():
    assert len(COUNTED) >= 92
    types = {preset_config(preset)["model_type"] for preset in COUNTED}
    assert types >= {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text"}
    assert types >= {"phi3", "deepseek_v2", "deepseek_v3", "glm4_moe", "gpt_oss", "olmo2", "cohere", "granite"}
    assert types >= {"gemma3", "mistral3", "qwen3_vl", "qwen3_vl_moe", "qwen3_next", "qwen3_5"}


@pytest.mark.parametrize("preset", COUNTED)
def test_it_has_the_tensors_that_transformers_built(preset):
    built, counted = inventory_of(preset), own(preset_config(preset)).inventory
    assert {tensor for tensor in built.tensors if tensor.part != "mtp"} == set(counted.tensors)
    assert counted.experts_per_token == built.experts_per_token


PUBLISHED = {
    # parameters, as Keras' presets, llama.cpp's n_params and the headers of the safetensors files state them
    "Qwen1.5-MoE-A2.7B": (
        14_315_784_192,
        {
            **{"model_type": "qwen2_moe", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24},
            **{"num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 151936, "num_experts": 60},
            **{"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4},
        },
    ),
    "GLM-4-9B-0414": (
        9_400_279_040,
        {
            **{"model_type": "glm4", "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40},
            **{"num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 151552},
            **{"attention_bias": True, "tie_word_embeddings": False},
        },
    ),
    "OLMoE-1B-7B-0924": (
        6_919_161_856,
        {
            **{"model_type": "olmoe", "hidden_size": 2048, "intermediate_size": 1024, "num_hidden_layers": 16},
            **{"num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 50304, "num_experts": 64},
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_of_parameters(name):
    parameters, config = PUBLISHED[name]
    assert own(config).inventory.parameters == parameters


def test_a_config_of_ones_own_has_the_bytes_of_its_sizes(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(MISTRAL))
    found = find_weights(load_path(tmp_path))
    assert (found.bytes, found.parameters, found.estimate) == (24_495_564_800, 12_247_782_400, False)
    words = "12,247,782,400 parameters of MistralForCausalLM, counted from its config, in bf16 (16 bits)"
    assert found.source == words
    assert find_weights(load(MISTRAL)).bytes == 24_495_564_800


def test_bytes_that_are_given_are_of_the_same_tensors():
    given = find_weights(load(MISTRAL), "13.6GB")
    assert (given.bytes, given.source) == (13_600_000_000, "given")
    assert given.parameters == 12_247_782_400
    assert given.widths == (5120, 14336, 131072, False, False, 0, False)


def test_sizes_that_the_config_leaves_out_are_named():
    found = own({key: value for key, value in MISTRAL.items() if key != "vocab_size"}).inventory
    assert found.source == "MistralForCausalLM with its defaults vocab_size 32,000, counted from its config"


REFUSED = {
    "a MistralForCausalLM has no extra_experts": {"extra_experts": 4},
    "a MistralForCausalLM has no attention_bias": {"attention_bias": True},
    "architectures names 'MistralForSequenceClassification', not MistralForCausalLM": {
        "architectures": ["MistralForSequenceClassification"]
    },
    "intermediate_size must be at least 1, not 0": {"intermediate_size": 0},
    "tie_word_embeddings is 'no'": {"tie_word_embeddings": "no"},
    "no tensors of model_type 'gptj' are known": {"model_type": "gptj"},
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_understood_is_not_counted(why):
    found = own(MISTRAL | REFUSED[why])
    assert (found.inventory, found.not_counted) == (None, why)


def test_an_unknown_size_says_why_and_what_would_count_it():
    with pytest.raises(InvalidValueError) as error:
        find_weights(load(MISTRAL | {"extra_experts": 4}))
    assert error.value.what == "weights size unknown: a MistralForCausalLM has no extra_experts"
    assert error.value.help.endswith(f"; `{install('against')}` counts by the class itself")


def test_logits_that_a_config_does_not_speak_of_are_not_guessed():
    """The class ties them where published checkpoints of the type do not."""
    config = {"model_type": "mistral3", "text_config": MISTRAL, "vision_config": {"model_type": "pixtral"}}
    assert own(config).not_counted == "tie_word_embeddings is missing"
    assert own(config | {"tie_word_embeddings": False}).inventory is not None


def test_a_tower_is_not_left_out_in_silence():
    config = {"model_type": "llava", "text_config": MISTRAL, "vision_config": {"model_type": "clip_vision_model"}}
    assert own(config).not_counted == "'llava' has towers besides its text model"


def test_widths_are_known_where_tensors_are_not():
    found = find_weights(load(MISTRAL | {"extra_experts": 4}), "13.6GB")
    assert found.widths[:3] == (5120, 14336, 131072)
    assert not found.tensors


def test_an_assumed_family_and_a_rebuilt_model_are_not_counted():
    assert load({**MISTRAL, "model_type": "made_up"}, assume="gqa").checkpoint.inventory is None
    with pytest.raises(InvalidValueError, match="was never published"):
        find_weights(apply_method(load(MISTRAL), "gqa:4"))


def test_every_row_is_of_a_family_that_is_read():
    assert set(known_model_types()) >= CLASSES.keys()


def test_counting_imports_no_torch():
    code = f"""
import sys
from kvcalc.io.loading import load
from kvcalc.io.weights import find_weights
print(find_weights(load({MISTRAL!r})).bytes, sorted({{"torch", "transformers", "numpy"}} & set(sys.modules)))
"""
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "24495564800 []\n"
