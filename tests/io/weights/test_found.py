"""Which weights a model has, who says so, and in which order they are asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.io.loading import load, load_path
from kvcalc.io.resolve.rule import format_of
from kvcalc.io.weights import find_weights, read_weights
from kvcalc.io.weights.inventories import inventory_text, parse_inventory, spans
from kvcalc.methods import apply_method
from kvcalc.model.checkpoint import PARTS, Inventory, WeightTensor

GIVEN = {
    "70B x 4.5bit": 39_375_000_000,
    "70B x 4.5 bits": 39_375_000_000,
    "70b @ 4.5bpw": 39_375_000_000,
    "8B x bf16": 16_000_000_000,
    "8.03B*fp16": 16_060_000_000,
    "671B × fp8": 671_000_000_000,
    "1T x int4": 500_000_000_000,
    "350M x fp32": 1_400_000_000,
    "7B params x 8bit": 7_000_000_000,
}


@pytest.mark.parametrize("text", GIVEN)
def test_parameters_and_bits_are_bytes_and_an_estimate(text):
    found = read_weights(text)
    assert (found.bytes, found.estimate, found.source) == (GIVEN[text], True, f"given as {text}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("70B x q4", "weights do not give the bits per parameter: '70B x q4'"),
        ("70B", "weights would be 70 bytes; 70 billion parameters in bf16 are 140GB"),
        ("999999T x 32bit", "weights must be at most"),
        ("70B x", "weights must be a number of bytes with its unit, not '70B x'"),
    ],
)
def test_what_says_no_bits_is_refused(text, message):
    with pytest.raises(InvalidValueError) as error:
        read_weights(text)
    assert error.value.what.startswith(message)


def test_a_folder_that_names_a_model_says_its_weights(tmp_path):
    config = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(config | {"torch_dtype": "float16"}))
    model = load(str(tmp_path))
    h, ffn, vocab = 64, 11008, 32000
    parameters = 2 * (4 * h * h + 3 * h * ffn + 2 * h) + 2 * vocab * h + h
    assert find_weights(model).bytes == 2 * parameters
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 123_456}}))
    assert find_weights(model)[:3] == (123_456, f"read from {tmp_path}", False)
    assert find_weights(load_path(tmp_path / "config.json")).bytes == 123_456
    assert find_weights(model, "2GB").bytes == 2 * 10**9
    with pytest.raises(InvalidValueError, match="as gqa the model was never published"):
        find_weights(apply_method(model, "gqa:2"))


def test_two_ways_to_say_it_are_one_too_many():
    with pytest.raises(
        InvalidValueError, match=r"weights are given \(2GB\), and a format to count them in as well \(fp8\)"
    ):
        find_weights(load("r1"), "2GB", "fp8")


def test_a_format_that_is_not_known_is_asked_back():
    with pytest.raises(UnknownNameError, match="no weight format is called 'fp7'") as error:
        find_weights(load("r1"), form="fp7")
    assert "fp8" in error.value.help


FORMATS = {  # repository, what the table or the rule knows of it: format
    ("mlx-community/Qwen3-8B-4bit", "mlx"): "mlx-4bit",
    ("mlx-community/Qwen3-8B-6bit", "mlx"): "mlx-6bit",
    ("mlx-community/Qwen3-8B-MLX", "mlx"): "mlx",
    ("unsloth/Qwen3-8B-bnb-4bit", "bnb"): "bnb-4bit",
    ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "gptq"): "gptq-8bit",
    ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq"): "gptq",
    ("Qwen/Qwen3-8B-FP8", "fp8"): "fp8",
    ("RedHatAI/Qwen3-8B-FP8-dynamic", "fp8"): "fp8-channel",
    ("RedHatAI/Qwen3-8B-quantized.w4a16", "quantized.w4a16"): "w4a16",
    ("unsloth/Qwen3-8B-GGUF", "gguf"): "gguf",
    ("Qwen/Qwen3-8B", ""): "",
}


@pytest.mark.parametrize(("name", "weights"), FORMATS)
def test_a_name_says_the_format_or_does_not(name, weights):
    assert format_of(name, weights) == FORMATS[name, weights]


tensors = st.builds(
    WeightTensor,
    st.sampled_from(sorted(PARTS)),
    st.text("abcdefgh._0123456789", min_size=1, max_size=20).filter(lambda name: not name.isspace()),
    st.lists(st.integers(1, 9999), min_size=1, max_size=4).map(tuple),
    st.sets(st.integers(0, 99), max_size=9).map(lambda layers: tuple(sorted(layers))),
    st.sampled_from(["", "F32", "I64"]),
    st.just(""),
) | st.just(WeightTensor("head", "lm_head.weight", (8, 4), shares="embed_tokens.weight"))


@given(st.lists(tensors, max_size=6).map(tuple))
def test_an_inventory_is_read_as_it_was_written(found):
    inventory = Inventory(found, "FooForCausalLM of transformers 5.24.0")
    assert parse_inventory(inventory_text(inventory, "org/name"), "name.tsv") == inventory


@given(st.sets(st.integers(0, 60)))
def test_layers_are_spans(layers):
    text = spans(sorted(layers))
    assert {n for span in filter(None, text.split(",")) for n in _span(span)} == layers


def _span(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
