"""Runs of quantised caches that tests share: small models, random tokens, and caches held against the prediction."""

from __future__ import annotations

import torch
from policy_runs import PROMPT, SEQUENCES, step_by_step
from torch import Tensor

import kvcalc
from kvcalc.verify.policies._policy import Place
from kvcalc.verify.quantised._cache import QuantisedCache
from kvcalc.verify.under_methods import policy_for

MODELS = {
    "mha": {"attention": "gqa", "num_layers": 1, "num_query_heads": 4, "num_kv_heads": 4, "head_dim": 32},
    "gqa": {"attention": "gqa", "num_layers": 1, "num_query_heads": 6, "num_kv_heads": 2, "head_dim": 32},
}
ALONE = {"attention": "gqa", "num_layers": 1, "num_query_heads": 1, "num_kv_heads": 1, "head_dim": 32}
FORMATS = ("fp8 int8", "int4 nvfp4", "mxfp4 q8_0", "q5_1 q5_0", "q4_1 iq4_nl")
SPECS = [
    "kv-dtype:k_dtype=q8_0,v_dtype=q4_0",
    "per-token-head",
    "per-token-head:kv_cache_dtype=int4_per_token_head",
    "int4-grouped:group_size=16",
    "kivi:group_size=16,residual_length=32",
    f"quanto:q_group_size=16,residual_length=32,prompt_tokens={PROMPT}",
    f"hqq:q_group_size=16,residual_length=32,prompt_tokens={PROMPT}",
    "kvquant",
    "kvquant:deployed=true,bits=4",
    "turboquant",
    "turboquant:package=true,residual_len=70",
]
"""Methods with parameters, run on every model; what packs several tokens together does so for whole words here."""
VARIANTS = [
    *("kv-dtype:k_dtype={},v_dtype={}".format(*pair.split()) for pair in FORMATS),
    "kv-dtype:v_dtype=q4_0",
    "per-token-head:kv_cache_dtype=int8,scale_dtype=fp16",
    "kivi:group_size=32,residual_length=64,k_bits=4,v_bits=2",
    f"quanto:nbits=2,q_group_size=8,residual_length=128,prompt_tokens={PROMPT}",
    f"quanto:nbits=2,q_group_size=2,residual_length=7,axis_key=-1,prompt_tokens={PROMPT}",
    f"hqq:nbits=1,q_group_size=8,residual_length=32,axis_value=1,prompt_tokens={PROMPT}",
    f"hqq:nbits=3,q_group_size=16,residual_length=50,prompt_tokens={PROMPT}",
    f"hqq:nbits=8,q_group_size=16,residual_length=32,axis_key=1,prompt_tokens={PROMPT}",
    "kvquant:bits=3,sparsity_threshold=0.97,first_few_fp16=5",
    "kvquant:deployed=true,bits=3,maxseqlen=300,first_few_fp16=70",
    "turboquant:bits=4",
]
"""Other parameters, run on the GQA layer."""
RUNS = step_by_step(
    [(spec, name) for spec in SPECS for name in reversed(MODELS)] + [(spec, "gqa") for spec in VARIANTS]
)


def made(facts: dict, spec: str) -> tuple[kvcalc.Model, QuantisedCache]:
    model = kvcalc.apply_method(kvcalc.load(facts), spec)
    return model, policy_for(model.methods[-1], Place(model.groups[0].parts[0]))


def rows_of(facts: dict, tokens: int, *, sequences: int = SEQUENCES, dtype: torch.dtype = torch.float32, seed: int = 0):
    """Queries, keys and values (B, heads, tokens, D)."""
    maker = torch.Generator().manual_seed(seed)
    heads = (facts["num_query_heads"], facts["num_kv_heads"], facts["num_kv_heads"])
    return [torch.randn(sequences, h, tokens, facts["head_dim"], generator=maker).to(dtype) for h in heads]


def part(rows: list[Tensor], start: int, end: int) -> list[Tensor]:
    return [each[:, :, start:end] for each in rows]


def held_bytes(cache: QuantisedCache) -> dict[str, tuple[int, int]]:
    return {name: (tensor.nbytes, tensor.untyped_storage().nbytes()) for name, tensor in cache.held.items()}


def predicted_bytes(model: kvcalc.Model, tokens: int, *, sequences: int = SEQUENCES, kv_dtype: str = "fp32"):
    report = kvcalc.size(model, tokens=tokens, sequences=sequences, kv_dtype=kv_dtype)
    return {t.name: (t.bytes, t.storage_bytes) for group in report.groups for t in group.tensors}


def check_every_step_of(spec: str, name: str, steps: int, device: str = "cpu") -> None:
    """A prompt and so many steps: after each of them the cache is as predicted, and outputs are numbers."""
    facts = MODELS[name]
    model, cache = made(facts, spec)
    rows = [each.to(device) for each in rows_of(facts, PROMPT + steps)]
    cache.prefill(*part(rows, 0, PROMPT))
    assert held_bytes(cache) == predicted_bytes(model, PROMPT)
    for token in range(PROMPT, PROMPT + steps):
        query, key, value = part(rows, token, token + 1)
        output = cache.step(query, key, value)
        assert output.shape == query.shape
        assert output.isfinite().all()
        assert held_bytes(cache) == predicted_bytes(model, token + 1), token
    assert cache.key.shape == rows[1].shape
    assert cache.value.shape == rows[2].shape
