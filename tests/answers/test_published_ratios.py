"""Ratios that papers print: those that follow from arithmetic, and those that do not, with what arithmetic gives."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import pytest

import kvcalc


def per_token(name: str, *specs: str, dtype: str = "bf16", tokens: int = 1) -> Fraction:
    """Bytes of a model's cache under methods, for each of so many tokens."""
    model = kvcalc.load(name)
    for spec in specs:
        model = kvcalc.apply_method(model, spec)
    return Fraction(kvcalc.size(model, tokens=tokens, kv_dtype=dtype).total_bytes, tokens)


def under(name: str, spec: str, tokens: int) -> Fraction:
    """Share of a model's cache that a method leaves."""
    return per_token(name, spec, tokens=tokens) / per_token(name, tokens=tokens)


DEEPSEEK_67B_ELEMENTS, DEEPSEEK_V2_ELEMENTS = 194_560, 34_560


class Claim(NamedTuple):
    """What was printed, what arithmetic gives, and to how many decimals both are told."""

    source: str
    printed: str
    arithmetic: Callable[[], Fraction]
    decimals: int


FOLLOWS = [
    Claim("ISCA 2025, 2505.09343, Table 1: Qwen2.5-72B over V3", "4.66", lambda: per_token("qwen2.5-72b") / per_token("r1"), 2),
    Claim("DeepSeek-V2, Table 1: MLA as GQA with so many groups", "2.25", lambda: per_token("r1") / per_token("r1", "gqa:1"), 2),
    Claim(
        "DeepSeek-V2, abstract: less than DeepSeek 67B, %, its cache of 6 bits on average (section 3.2.3)",
        "93.3",
        lambda: 100 * (1 - Fraction(DEEPSEEK_V2_ELEMENTS * 6, DEEPSEEK_67B_ELEMENTS * 16)),
        1,
    ),
    Claim("H2O, 5.1: a budget of 20 % is 5 times less", "5", lambda: 1 / under("llama-2-7b", "h2o:hh_size=100,recent_size=100,prompt_tokens=1000", 1000), 0),
    Claim("CLA, 2405.12981: CLA2", "2", lambda: 1 / under("llama3-8b", "cla", 1000), 0),
    Claim("L2 norm, abstract: half of the cache", "0.5", lambda: under("llama-2-7b", "l2-norm:keep_ratio=0.5,prune_after=1", 1000), 1),
    Claim("L2 norm, abstract: a tenth, on passkeys", "0.1", lambda: under("llama-2-7b", "l2-norm:keep_ratio=0.1,prune_after=1", 1000), 1),
    Claim("KIVI: 2 bits and 1 of scales, for long contexts", "5.33", lambda: 1 / under("llama-2-7b", "kivi", 10**7), 2),
    Claim("DuoAttention: half of the heads, for long contexts", "2", lambda: 1 / under("llama3-8b", "duo-attention", 10**7), 0),
    Claim("GQA, 2305.13245: eight groups of Llama-2-70B as MHA", "8", lambda: per_token("llama-2-70b", "mha") / per_token("llama-2-70b"), 0),
    Claim("vLLM on V4-Pro: less than a V3.2-style stack at 1M, bf16", "8.7", lambda: Fraction(61 * (1152 + 256) * 2**20, kvcalc.size(kvcalc.load("deepseek-v4-pro"), tokens=2**20).total_bytes), 1),
]  # fmt: skip
DOES_NOT_FOLLOW = [
    (
        Claim("ISCA 2025, 2505.09343, Table 1: Llama-3.1-405B over V3", "7.28", lambda: per_token("llama-3.1-405b") / per_token("r1"), 2),
        "7.34",
    ),
    (
        Claim("DeepSeek-V2, abstract: 93.3 % less than DeepSeek 67B, at equal precision", "93.3", lambda: 100 * (1 - Fraction(DEEPSEEK_V2_ELEMENTS, DEEPSEEK_67B_ELEMENTS)), 1),
        "82.2",
    ),
    (
        Claim("KVQuant, text: 65B at 32K in nuq2 with 1 % of outliers, GB", "46.5", lambda: Fraction(kvcalc.size(kvcalc.apply_method(kvcalc.load({"name": "65B", "attention": "gqa", "num_layers": 80, "num_query_heads": 64, "num_kv_heads": 64, "head_dim": 128}), "kvquant:bits=2"), tokens=32_768, kv_dtype="fp16").total_bytes, 2**30), 1),
        "11.6",
    ),
]  # fmt: skip
"""With each, what arithmetic gives in its place."""


@pytest.mark.parametrize("claim", FOLLOWS, ids=lambda claim: claim.source[:60])
def test_a_ratio_follows(claim):
    assert f"{float(claim.arithmetic()):.{claim.decimals}f}" == claim.printed


@pytest.mark.parametrize(("claim", "instead"), DOES_NOT_FOLLOW, ids=lambda value: getattr(value, "source", value)[:60])
def test_a_ratio_does_not_follow(claim, instead):
    assert instead != claim.printed
    assert f"{float(claim.arithmetic()):.{claim.decimals}f}" == instead
