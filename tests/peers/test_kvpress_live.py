"""kvpress itself: presses that are methods here, run on a tiny model, and the caches that they left.

On demand, in an environment of its own, since kvpress pins another transformers than these tests do:

    pip install kvpress==0.5.5 . pytest hypothesis && pytest -o addopts= -o filterwarnings= -m kvpress tests/peers
"""

from __future__ import annotations

import pytest

import kvcalc

pytestmark = pytest.mark.kvpress
PROMPT, SEQUENCES = 300, 2
HEADS, KV_HEADS, WIDTH, LAYERS = 8, 2, 16, 4
CASES = {
    "l2-norm": ("KnormPress", {}, "sdpa"),
    "snapkv": ("SnapKVPress", {"window_size": 32}, "sdpa"),
    "streaming-llm": ("StreamingLLMPress", {}, "sdpa"),
    "tova": ("TOVAPress", {}, "sdpa"),
    "pyramidkv": ("PyramidKVPress", {"window_size": 32, "beta": 10}, "sdpa"),
    "h2o": ("ObservedAttentionPress", {}, "eager"),
}
"""Methods, each with its press, the parameters that decide how many tokens stay, and the attention that it needs."""


@pytest.mark.parametrize("ratio", [0.1, 0.35, 0.5, 0.9])
@pytest.mark.parametrize("name", CASES)
def test_the_cache_that_a_press_leaves(name, ratio):
    kvpress = pytest.importorskip("kvpress")
    press_name, parameters, attention = CASES[name]
    press = getattr(kvpress, press_name)(compression_ratio=ratio, **parameters)
    held = pressed(press, attention)
    model = kvcalc.load(
        {
            "attention": "gqa",
            "num_layers": LAYERS,
            "num_query_heads": HEADS,
            "num_kv_heads": KV_HEADS,
            "head_dim": WIDTH,
        }
    )
    further = "".join(f",{key}={value}" for key, value in parameters.items())
    changed = kvcalc.apply_method(model, f"{name}:compression_ratio={ratio},prompt_tokens={PROMPT}{further}")
    report = kvcalc.size(changed, tokens=PROMPT, sequences=SEQUENCES, kv_dtype="fp32")
    predicted = {layer: group.bytes // group.num_layers for group in report.groups for layer in group.layers}
    assert held == [predicted[layer] for layer in range(LAYERS)]


def pressed(press, attention: str) -> list[int]:
    """Bytes of each layer's keys and values, and of the memory behind them, after a prompt under the press."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=100,
        hidden_size=128,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=WIDTH,
        attn_implementation=attention,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    cache = transformers.DynamicCache()
    with torch.no_grad(), press(model):
        model(torch.randint(100, (SEQUENCES, PROMPT)), past_key_values=cache)
    tensors = [(layer.keys, layer.values) for layer in cache.layers]
    for keys_and_values in tensors:
        assert all(tensor.nbytes == tensor.untyped_storage().nbytes() for tensor in keys_and_values)
    return [sum(tensor.nbytes for tensor in keys_and_values) for keys_and_values in tensors]
