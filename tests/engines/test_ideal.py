"""The engine ideal: formats that are set apart, and what it says of them."""

from __future__ import annotations

import pytest

import kvcalc

LATENT, INDEX = 78 * (512 + 64), 78 * 128
"""Elements of a token of GLM-5.1."""


@pytest.mark.parametrize(
    ("kv_dtype", "settings", "token_bytes"),
    [
        ("bf16", {}, 2 * (LATENT + INDEX)),
        ("fp8", {}, LATENT + INDEX),
        (
            "fp8",
            {"index_dtype": "bf16"},
            64_896,
        ),  # Eco-Sphere/kv-cache-calculator, kv_cache_expected.json: 8,192 tokens
        ("bf16", {"latent_dtype": "fp8"}, 64_896),
        ("bf16", {"index_dtype": "fp8"}, 2 * LATENT + INDEX),
        ("bf16", {"latent_dtype": "fp8", "index_dtype": "int4"}, LATENT + INDEX // 2),
    ],
)
def test_latent_and_index_have_formats_of_their_own(kv_dtype, settings, token_bytes):
    report = kvcalc.size(kvcalc.load("glm-5.1"), tokens=8192, kv_dtype=kv_dtype, engine_settings=settings)
    assert report.bytes_per_token == token_bytes
    assert report.total_bytes == 8192 * token_bytes


@pytest.mark.parametrize(
    ("engine", "settings", "words"),
    [
        ("ideal", {}, "keys of the indexer are in fp8 as well (index_dtype sets their format)"),
        ("transformers", {}, "keys of the indexer are in fp8 as well"),
        ("ideal", {"index_dtype": "bf16"}, None),
    ],
)
def test_a_quantised_indexer_is_told_of(engine, settings, words):
    model = kvcalc.load("glm-5.1")
    told = [
        note
        for note in kvcalc.size(model, tokens=100, kv_dtype="fp8", engine=engine, engine_settings=settings).notes
        if "indexer are" in note
    ]
    assert told == ([] if words is None else [words])
    assert not any("indexer are" in note for note in kvcalc.size(model, tokens=100).notes)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("llama-3.1-8b", {"index_dtype": "fp8"}, "no layer of llama-3.1-8b keeps keys of an indexer"),
        ("llama-3.1-8b", {"latent_dtype": "fp8"}, "no layer of llama-3.1-8b keeps a latent"),
        ("r1", {"index_dtype": "fp8"}, "no layer of deepseek-r1 keeps keys of an indexer"),
        ("r1", {"latent_dtype": "fp9"}, "latent_dtype: no dtype is called 'fp9'"),
    ],
)
def test_formats_of_what_is_not_kept_are_refused(model, settings, words):
    with pytest.raises(kvcalc.KvcalcError) as refusal:
        kvcalc.size(kvcalc.load(model), tokens=100, engine_settings=settings)
    assert str(refusal.value) == words
    assert refusal.value.help
