"""`--engine mlx_lm` against MLX-LM itself: caches of small random models that it ran on a CPU, and its arrays by hand.

Each row of the data is a config.json, a length with settings, and the bytes of all arrays in the caches, or a failure
(tools/measure_mlx_lm.py measures them again).
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.engines.mlx_lm import classes

DATA = Path(__file__).parents[1] / "data" / "mlx_lm.jsonl.gz"


def rows() -> list[dict]:
    with gzip.open(DATA, "rt") as lines:
        return list(map(json.loads, lines))


@pytest.fixture(scope="module")
def measured() -> list[dict]:
    return rows()


def taken(row: dict, model: kvcalc.Model) -> dict:
    try:
        return {"total_bytes": kvcalc.size(model, **row["question"]).total_bytes}
    except kvcalc.NotApplicableError:
        return {"refused": True}


def test_every_row_takes_what_mlx_lm_took(measured):
    models: dict[str, kvcalc.Model] = {}
    for row in measured:
        model = models.setdefault(row["name"], kvcalc.load(row["config"]))
        assert taken(row, model) == row["want"], (row["name"], row["question"])
    assert len(measured) == 1210
    assert sum(row["want"] == {"refused": True} for row in measured) == 7


def size(name: str, t: int, *, kv_dtype: str = "bf16", **settings) -> kvcalc.Report:
    return kvcalc.size(kvcalc.load(name), tokens=t, kv_dtype=kv_dtype, engine="mlx_lm", engine_settings=settings)


# Sizes worked out by hand -------------------------------------------------------------------------------------------

LLAMA = 32 * 8 * 128 * 2  # layers, KV heads, head_dim, K and V: elements of a token of Llama 3.1 8B
SIZES = {
    "steps of 256": (("llama-3.1-8b", 257), {}, 512 * LLAMA * 2),
    "4 bits from 5,000 tokens on": (("llama-3.1-8b", 5001), {"kv_bits": 4}, 5120 * LLAMA * (32 + 4) // 64),
    "not before": (("llama-3.1-8b", 4999), {"kv_bits": 4}, 5120 * LLAMA * 2),
    "3 bits": (
        ("llama-3.1-8b", 300),
        {"kv_bits": 3, "quantized_kv_start": 0},
        512 * LLAMA * (64 * 3 // 8 + 4) // 64,
    ),
    "8 bits in groups of 32": (
        ("qwen3-8b", 300),
        {"kv_bits": 8, "kv_group_size": 32, "quantized_kv_start": 0},
        512 * 36 * 8 * 128 * 2 * (32 + 4) // 32,
    ),
    "rings": (("gemma-3-27b", 600), {}, (52 * 855 + 10 * 768) * 16 * 128 * 2 * 2),
    "rings after a prompt of 300": (
        ("gemma-3-27b", 600),
        {"prompt_tokens": 300},
        (52 * (300 + 255 + 256) + 10 * 768) * 16 * 128 * 2 * 2,
    ),
    "a ring of the user's": (("qwen3-8b", 3000), {"max_kv_size": 1000}, 1000 * 36 * 8 * 128 * 2 * 2),
    "a ring of latents": (("r1", 600), {"max_kv_size": 200}, 200 * 61 * 576 * 2),
    "a chunk and a step": (
        ("llama-4-scout", 10_000),
        {},
        (36 * (8192 + 256) + 12 * 10_240) * 8 * 128 * 2 * 2,
    ),
    "DeepSeek-V2 is expanded": (("deepseek-v2-lite", 256), {}, 256 * 27 * 16 * (192 + 128) * 2),
    "an index key and as many zeros": (("deepseek-v3.2", 256), {}, 256 * 61 * (576 + 2 * 128) * 2),
    # 24 layers of 10,240 x 3 in bf16 and 128 x 64 x 128 in float32 (ssm.py, compute_dt); 4 of 8 heads of 128
    "Mamba-2 states in float32": (
        ("nemotron-h-8b", 256),
        {},
        24 * ((8192 + 2 * 8 * 128) * 3 * 2 + 128 * 64 * 128 * 4) + 4 * 256 * 2 * 8 * 128 * 2,
    ),
    "Mamba's as its weights": (("falcon-mamba-7b", 1), {}, 64 * 8192 * (3 + 16) * 2),
}


@pytest.mark.parametrize(("asked", "settings", "wanted"), SIZES.values(), ids=SIZES)
def test_sizes_are_those_worked_out_by_hand(asked, settings, wanted):
    assert size(*asked, **settings).total_bytes == wanted


def test_kv_dtype_asks_for_what_a_setting_would():
    by_dtype = size("llama-3.1-8b", 6000, kv_dtype="int8").total_bytes
    assert by_dtype == size("llama-3.1-8b", 6000, kv_bits=8).total_bytes != size("llama-3.1-8b", 6000).total_bytes


# Arrays, step by step -----------------------------------------------------------------------------------------------


def reads(prompt: int, chunk: int, decoded: int) -> list[int]:
    """Tokens that come into a cache at once: chunks of the prompt but for its last token, then one after the other."""
    whole, rest = divmod(prompt - 1, chunk)
    return [*[chunk] * whole, *[rest] * bool(rest), 1, *[1] * decoded]


def array_after(news: list[int]) -> int:
    """Slots of an array: cut to what it holds where that is no whole step, and grown by whole steps."""
    slots = held = 0
    for new in news:
        if held + new > slots:
            slots = (held if held % 256 else slots) + (new + 255) // 256 * 256
        held += new
    return slots


def ring_after(news: list[int], window: int) -> int:
    """Slots of a ring: chunks are appended to the last window - 1 tokens, a token alone goes into a step of its own."""
    slots = held = 0
    for new in news:
        if new > 1:
            slots = min(slots, held, window - 1) + new if held else new
        elif held >= slots and slots < window:
            slots += min(256, window - held)
        if new == 1:
            slots = min(slots, window)
        held += new
    return slots


CHUNKS = st.sampled_from([1, 64, 256, 512, 2048])


@given(st.integers(1, 20_000), CHUNKS)
def test_arrays_grow_as_they_do_step_by_step(prompt, chunk):
    report = size("llama-3.2-1b", prompt, prefill_step_size=chunk)
    assert report.groups[0].tensors[0].slots == array_after(reads(prompt, chunk, 0))


@given(st.integers(1, 20_000), CHUNKS)
def test_rings_grow_as_they_do_step_by_step(prompt, chunk):
    report = size("gemma-3-1b", prompt, prefill_step_size=chunk)
    sliding = next(group for group in report.groups if "sliding" in group.name)
    assert sliding.tensors[0].slots == ring_after(reads(prompt, chunk, 0), 512)


@given(st.integers(1, 6000), st.integers(0, 1200), st.integers(1, 3000))
def test_a_prompt_that_is_given_is_followed_by_single_tokens_whatever_its_chunks(prompt, decoded, chunk):
    report = size("gemma-3-1b", prompt + decoded, prefill_step_size=chunk, prompt_tokens=prompt)
    news = reads(prompt, chunk, decoded)
    slots = {group.name: group.tensors[0].slots for group in report.groups}
    assert slots == {"sliding": ring_after(news, 512), "full": array_after(news)}


def test_a_last_chunk_of_one_token_takes_its_step_before_the_last_token_does():
    slots = [size("gemma-3-27b", t, prefill_step_size=512).groups[0].tensors[0].slots for t in (513, 514, 515)]
    assert slots == [513 + 255, 514 + 254, 515 + 255]


def test_arrays_of_other_chunks_would_be_others():
    news = reads(457, 100, 0)
    assert (array_after(news), array_after(reads(457, 256, 0))) == (712, 512)  # cut at 200, then at 456


# Modules ------------------------------------------------------------------------------------------------------------

CONFIG = {
    **{"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64},
    **{"max_position_embeddings": 8192, "vocab_size": 128},
}
MIXED = {"sliding_window": 300, "layer_types": ["sliding_attention", "full_attention"] * 2}
LAYER = 2 * 64 * 2 * 2  # KV heads, head_dim, K and V, bytes


def of_config(t: int, config: dict, **settings) -> int:
    return kvcalc.size(kvcalc.load(config), tokens=t, engine="mlx_lm", engine_settings=settings).total_bytes


@pytest.mark.parametrize(
    ("config", "settings", "slots"),
    [
        ({"model_type": "mistral", **CONFIG, **MIXED}, {}, 2 * 300 + 2 * 768),
        ({"model_type": "mistral", **CONFIG, "sliding_window": 300}, {}, 4 * 768),  # no layer_types: no windows
        ({"model_type": "mistral", **CONFIG}, {"max_kv_size": 400}, 4 * 768),  # llama.py makes its caches
        ({"model_type": "pixtral", "text_config": {"model_type": "mistral", **CONFIG, **MIXED}}, {}, 4 * 768),
        ({"model_type": "mistral3", "text_config": {"model_type": "mistral", **CONFIG}}, {"max_kv_size": 400}, 4 * 400),
        ({"model_type": "qwen3", **CONFIG}, {"max_kv_size": 400}, 4 * 400),
    ],
)
def test_the_module_of_the_whole_model_decides(config, settings, slots):
    """Wrappers without make_cache of their own have plain caches, whatever their text part does."""
    assert of_config(600, config, **settings) == slots * LAYER


def test_every_module_is_in_one_table():
    tables = (
        *(classes.WITHOUT_MAKE_CACHE, classes.ROTATES, classes.LISTS, classes.CHUNKS, classes.OWN_CACHES),
        classes.OTHERS,
    )
    assert len(classes.MODULES) == 126 == sum(map(len, tables)) - len(classes.ROTATES & classes.LISTS)
    named = classes.EXPANDS_LATENT | classes.FAILS_QUANTISED | classes.FILLS_VALUES | classes.STATES_IN_FLOAT32
    assert named <= classes.MODULES


# Refusals -----------------------------------------------------------------------------------------------------------

REFUSALS = {
    "a quantised ring": (
        lambda: size("gemma-3-27b", 5000, kv_bits=4),
        "RotatingKVCache Quantization NYI: sliding layers keep k in a ring (at 5,000 tokens; the limit is 4,999)",
    ),
    "a quantised ring from the start": (
        lambda: size("gemma-3-27b", 1, kv_bits=4, quantized_kv_start=0),
        "RotatingKVCache Quantization NYI: sliding layers keep k in a ring",
    ),
    "odd chunks": (lambda: size("r1", 1, prefill_step_size=100), "chunks of 100 tokens cut arrays"),
    "a group that does not divide": (
        lambda: size("phi-3-mini-128k", 5000, kv_bits=4),
        "divisible by the quantization group size 64: the 96 elements of a head of k are not",
    ),
    "a module that computes with its cache": (
        lambda: size("gemma-2-9b", 5001, kv_bits=4),
        "MLX-LM's gemma2 treats its cache as arrays, and fails on quantised ones",
    ),
    "a type without a module": (lambda: size("falcon-7b", 1), "Model type falcon not supported."),
    "a ring of too few tokens": (
        lambda: size("qwen3-8b", 1, max_kv_size=3),
        "a ring keeps its first 4 tokens, more than max_kv_size (3)",
    ),
    "a kind that is not known": (lambda: size("yoco-3b", 1), "how MLX-LM stores gated retention layers"),
    "a format": (lambda: size("r1", 1, kv_dtype="q8_0"), "MLX-LM stores no cache in q8_0"),
}


@pytest.mark.parametrize(("ask", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_mlx_lm_cannot_do_is_refused_with_its_reason(ask, words):
    with pytest.raises(kvcalc.NotApplicableError) as refusal:
        ask()
    assert words in str(refusal.value)
    assert refusal.value.help


def test_bits_that_mlx_has_not_are_refused():
    with pytest.raises(kvcalc.InvalidValueError, match="kv_bits must be one of 2, 3, 4, 5, 6, 8, not 7"):
        size("r1", 1, kv_bits=7)


def test_a_sweep_and_a_fit_end_where_kv_bits_does(cli):
    model, settings = kvcalc.load("gemma-3-27b"), {"kv_bits": 4}
    assert kvcalc.sweep(model, tokens=[1, 4999], engine="mlx_lm", engine_settings=settings).shape == (2,)
    with pytest.raises(kvcalc.NotApplicableError, match="the limit is 4,999"):
        kvcalc.sweep(model, tokens=[1, 5000], engine="mlx_lm", engine_settings=settings)
    run = cli("fit --preset gemma-3-27b -e mlx_lm --engine-set kv_bits=4 --gpu h100-80gb --weights 14GB")
    assert "max context  4,999 tokens (1 user)" in run.stdout
    assert "limited by   the engine's settings, not memory" in run.stdout


def test_what_is_ignored_is_said():
    assert "max_kv_size is ignored" in " ".join(size("llama-3.1-8b", 1, max_kv_size=10).notes)
    assert "kv_bits is ignored" in " ".join(size("deepseek-v3.2", 1, kv_bits=4).notes)
    assert "kv_bits is ignored" in " ".join(size("longcat-flash", 9000, kv_bits=4).notes)
    assert "dtype of A_log" in " ".join(size("falcon-mamba-7b", 1).notes)
