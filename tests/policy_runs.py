"""Runs of torch policies that tests share: small models, random tokens, and caches held against the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor

import kvcalc
from kvcalc.verify.policies._policy import Place, Policy
from kvcalc.verify.under_methods import policy_for

PROMPT, STEPS, SEQUENCES = 61, 200, 2
FEW_STEPS = 60
"""Steps of the runs that every day's tests take: enough to fill windows of 20 and blocks of 8 several times."""
MHA = {"name": "mha", "attention": "gqa", "num_layers": 3, "num_query_heads": 4, "num_kv_heads": 4, "head_dim": 8}
GQA = {"name": "gqa", "attention": "gqa", "num_layers": 3, "num_query_heads": 8, "num_kv_heads": 2, "head_dim": 8}
MODELS = {"mha": MHA, "gqa": GQA}
SPECS = [
    ("streaming-llm:start_size=4,recent_size=20", "mha gqa"),
    ("streaming-llm:start_size=4,recent_size=100", "mha gqa"),
    (f"streaming-llm:compression_ratio=0.4,prompt_tokens={PROMPT}", "mha gqa"),
    ("h2o:hh_size=6,recent_size=20", "mha"),
    ("h2o:hh_size=60,recent_size=90", "mha"),
    (f"h2o:compression_ratio=0.4,prompt_tokens={PROMPT}", "mha gqa"),
    (f"h2o-flexgen:hh_ratio=0.2,prompt_tokens={PROMPT}", "mha"),
    (f"h2o-flexgen:hh_ratio=0.2,hh_all=false,gen_len=201,prompt_tokens={PROMPT}", "mha"),
    ("h2o-mask-only", "mha gqa"),
    (f"vatp:heavy_ratio=0.3,recent_ratio=0.2,sink_len=3,prompt_tokens={PROMPT}", "mha gqa"),
    (f"vatp:mask_only=true,prompt_tokens={PROMPT}", "mha gqa"),
    ("tova:cache_size=30", "mha gqa"),
    (f"tova:compression_ratio=0.9,prompt_tokens={PROMPT}", "mha gqa"),
    (f"snapkv:max_capacity_prompt=30,window_size=8,prompt_tokens={PROMPT}", "mha gqa"),
    (f"snapkv:max_capacity_prompt=90,window_size=8,prompt_tokens={PROMPT}", "mha gqa"),
    (f"snapkv:max_capacity_prompt=30,window_size=8,prompt_tokens={PROMPT},gqa_support=false", "gqa"),
    (f"snapkv:compression_ratio=0.3,window_size=8,prompt_tokens={PROMPT}", "mha gqa"),
    (f"pyramidkv:max_capacity_prompt=30,window_size=8,prompt_tokens={PROMPT}", "mha gqa"),
    (f"pyramidkv:max_capacity_prompt=36,window_size=8,beta=3,prompt_tokens={PROMPT}", "mha gqa"),
    (f"pyramidkv:max_capacity_prompt=50,window_size=8,prompt_tokens={PROMPT},gqa_support=false", "mha gqa"),
    (f"pyramidkv:compression_ratio=0.5,window_size=8,beta=3,prompt_tokens={PROMPT}", "mha gqa"),
    (f"l2-norm:keep_ratio=0.3,prune_after=10,skip_layers=1,prompt_tokens={PROMPT}", "mha gqa"),
    (f"l2-norm:keep_ratio=0.3,prune_after=100,prompt_tokens={PROMPT}", "mha gqa"),
    (f"l2-norm:compression_ratio=0.3,prompt_tokens={PROMPT}", "mha gqa"),
    ("duo-attention:sink_size=4,recent_size=20", "mha gqa"),
    ("duo-attention:retrieval_heads=0+1+2,sink_size=4,recent_size=90", "mha gqa"),
    (f"duo-attention:retrieval_heads=0+1+2,sink_size=4,recent_size=20,mask_only=true,prompt_tokens={PROMPT}", "gqa"),
    (f"ada-kv:base_capacity=30,window_size=8,prompt_tokens={PROMPT}", "mha"),
    (f"ada-kv:base_capacity=90,window_size=8,prompt_tokens={PROMPT}", "gqa"),
    (f"ada-kv:base_capacity=30,window_size=8,head_counts=10+34,prompt_tokens={PROMPT}", "gqa"),
    (f"ada-kv:base_capacity=30,window_size=8,floor_alpha=0.5,head_counts=10+34+10+34,prompt_tokens={PROMPT}", "mha"),
    (f"ada-kv:base_capacity=30,window_size=8,pyramid=true,gqa_support=false,prompt_tokens={PROMPT}", "gqa"),
    (f"ada-kv:compression_ratio=0.6,window_size=8,prompt_tokens={PROMPT}", "mha gqa"),
    ("fastgen", "gqa"),
    ("fastgen:heads_per_policy=1+0+1+1+1", "mha"),
    ("fastgen:heads_per_policy=0+1+1+2+0,special_tokens=9,punctuation_ratio=0.13,local_ratio=0.25", "mha"),
    ("fastgen:heads_per_policy=0+0+1+1+0", "gqa"),
    ("dmc:dmc_paged_block_size=8", "mha gqa"),
    ("dmc:dmc_paged_block_size=8,dmc_cr=2.5,max_len=100", "gqa"),
    ("dmc:dmc_paged_block_size=16,head_cr=1+2+16+2,dmc_window_size=3", "mha"),
    ("dms:dms_window_size=20,dms_paged_attention_block_size=8,dms_preallocate_for_tokens=30", "mha gqa"),
    ("dms:dms_window_size=90,dms_paged_attention_block_size=16,dms_cr=2.5,max_context_length=200", "gqa"),
    ("dms:dms_window_size=20,dms_paged_attention_block_size=8,dms_preallocate_for_tokens=1,head_cr=1+4", "gqa"),
    ("dms:dms_window_size=20,mask_only=true", "gqa"),
]
"""Methods with parameters, and the models that each is run on."""


def once_each(runs: Sequence[tuple[str, str]]) -> list[ParameterSet]:
    """Specs and models as parameters of a test: one run of each method at once, its others marked as slow."""
    methods: set[str] = set()
    parameters = []
    for spec, name in runs:
        method = spec.partition(":")[0]
        marks = [pytest.mark.slow] if method in methods else []
        methods.add(method)
        parameters.append(pytest.param(spec, name, marks=marks, id=f"{spec}-{name}"))
    return parameters


def step_by_step(runs: Sequence[tuple[str, str]]) -> list[ParameterSet]:
    """Specs, models and steps: a run of a few steps of each method at once; all of them, with all steps, as slow."""
    few = [pytest.param(*run.values, FEW_STEPS, id=f"{run.id}-few") for run in once_each(runs) if not run.marks]
    return [*few, *(pytest.param(*run, STEPS, marks=pytest.mark.slow, id="-".join(run)) for run in runs)]


RUNS = step_by_step([(spec, name) for spec, names in SPECS for name in reversed(names.split())])


class Seen(NamedTuple):
    """All that a layer was ever given, (B, heads, tokens, width)."""

    query: Tensor
    key: Tensor
    value: Tensor

    @classmethod
    def random(cls, facts: dict, tokens: int, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Seen:
        made = torch.Generator().manual_seed(seed)
        heads = (facts["num_query_heads"], facts["num_kv_heads"], facts["num_kv_heads"])
        shapes = ((SEQUENCES, number, tokens, facts["head_dim"]) for number in heads)
        return cls(*(torch.randn(shape, generator=made, dtype=torch.float64).to(dtype) for shape in shapes))

    def between(self, start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(rows[..., start:end, :] for rows in self)  # type: ignore[return-value]


def changed(spec: str, name: str) -> kvcalc.Model:
    """The small model of that name under a method."""
    return kvcalc.apply_method(kvcalc.load(MODELS[name]), spec)


def policies_of(model: kvcalc.Model) -> dict[int, Policy]:
    """The policy of each layer."""
    return {
        layer: policy_for(model.methods[-1], Place(group.parts[0], layer, model.num_layers))
        for group in model.groups
        for layer in group.layers
    }


def check(model: kvcalc.Model, policies: dict[int, Policy], tokens: int) -> None:
    """Each tensor of each layer takes the predicted bytes, and so does the memory behind it."""
    report = kvcalc.size(model, tokens=tokens, sequences=SEQUENCES, kv_dtype="fp32")
    for group in report.groups:
        predicted = {t.name: (t.bytes // group.num_layers, t.storage_bytes // group.num_layers) for t in group.tensors}
        for layer in group.layers:
            held = policies[layer].held
            measured = {name: (t.nbytes, t.untyped_storage().nbytes()) for name, t in held.items()}
            assert measured == predicted, (tokens, layer)


def check_every_step(spec: str, name: str, steps: int, device: str = "cpu") -> None:
    """A prompt and so many steps: after each of them caches are as predicted, and outputs are numbers."""
    model = changed(spec, name)
    seen = Seen(*(rows.to(device) for rows in Seen.random(MODELS[name], PROMPT + steps)))
    policies = policies_of(model)
    for policy in policies.values():
        policy.prefill(*seen.between(0, PROMPT))
    check(model, policies, PROMPT)
    for step in range(PROMPT, PROMPT + steps):
        for policy in policies.values():
            output = policy.step(*seen.between(step, step + 1))
            assert output.shape == seen.query[..., :1, :].shape
            assert output.isfinite().all()
        check(model, policies, step + 1)
