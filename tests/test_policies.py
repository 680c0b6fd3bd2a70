"""Policies in torch: their caches are as predicted after every step, and they keep the tokens that they should."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import kvcalc
from kvcalc.verify.policies import POLICIES, policy_for
from kvcalc.verify.policies._policy import Place, Policy

PROMPT, STEPS = 61, 200
MHA = {"name": "mha", "attention": "gqa", "num_layers": 3, "num_query_heads": 4, "num_kv_heads": 4, "head_dim": 8}
GQA = {"name": "gqa", "attention": "gqa", "num_layers": 3, "num_query_heads": 8, "num_kv_heads": 2, "head_dim": 8}
MODELS = {"mha": MHA, "gqa": GQA}
SPECS = [
    ("streaming-llm:start_size=4,recent_size=20", "mha gqa"),
    ("streaming-llm:start_size=4,recent_size=100", "mha gqa"),
    (f"streaming-llm:compression_ratio=0.4,prompt_tokens={PROMPT}", "mha gqa"),
    ("h2o:hh_size=6,recent_size=20", "mha"),
    ("h2o:hh_size=60,recent_size=90", "mha"),
    ("tova:cache_size=30", "mha gqa"),
    (f"tova:compression_ratio=0.9,prompt_tokens={PROMPT}", "mha gqa"),
    (f"snapkv:max_capacity_prompt=30,window_size=8,prompt_tokens={PROMPT}", "mha gqa"),
    (f"snapkv:max_capacity_prompt=90,window_size=8,prompt_tokens={PROMPT}", "mha gqa"),
    (f"snapkv:max_capacity_prompt=30,window_size=8,prompt_tokens={PROMPT},gqa_support=false", "gqa"),
    (f"snapkv:compression_ratio=0.3,window_size=8,prompt_tokens={PROMPT}", "mha gqa"),
    (f"l2-norm:keep_ratio=0.3,prune_after=10,skip_layers=1,prompt_tokens={PROMPT}", "mha gqa"),
    (f"l2-norm:keep_ratio=0.3,prune_after=100,prompt_tokens={PROMPT}", "mha gqa"),
    (f"l2-norm:compression_ratio=0.3,prompt_tokens={PROMPT}", "mha gqa"),
]
"""Methods with parameters, and the models that each is run on."""
RUNS = [(spec, name) for spec, names in SPECS for name in names.split()]


class Seen(NamedTuple):
    """All that a layer was ever given, (B, heads, tokens, width)."""

    query: Tensor
    key: Tensor
    value: Tensor

    @classmethod
    def random(cls, facts: dict, tokens: int, *, sequences: int = 2, seed: int = 0) -> Seen:
        made = torch.Generator().manual_seed(seed)
        heads = (facts["num_query_heads"], facts["num_kv_heads"], facts["num_kv_heads"])
        return cls(*(torch.randn(sequences, h, tokens, facts["head_dim"], generator=made) for h in heads))

    def between(self, start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(rows[..., start:end, :] for rows in self)  # type: ignore[return-value]


def policies_of(model: kvcalc.Model) -> dict[int, Policy]:
    """The policy of each layer."""
    return {
        layer: policy_for(model.methods[-1], Place(group.parts[0], layer, model.num_layers))
        for group in model.groups
        for layer in group.layers
    }


def check(model: kvcalc.Model, policies: dict[int, Policy], tokens: int) -> None:
    """Each tensor of each layer takes the predicted bytes, and so does the memory behind it."""
    report = kvcalc.size(model, tokens=tokens, sequences=2, kv_dtype="fp32")
    for group in report.groups:
        predicted = {t.name: (t.bytes // group.num_layers, t.storage_bytes // group.num_layers) for t in group.tensors}
        for layer in group.layers:
            held = policies[layer].held
            measured = {name: (t.nbytes, t.untyped_storage().nbytes()) for name, t in held.items()}
            assert measured == predicted, (tokens, layer)


@pytest.mark.parametrize(("spec", "name"), RUNS)
def test_a_policy_takes_the_predicted_bytes_after_every_step(spec, name):
    model = kvcalc.apply_method(kvcalc.load(MODELS[name]), spec)
    seen = Seen.random(MODELS[name], PROMPT + STEPS)
    policies = policies_of(model)
    for policy in policies.values():
        policy.prefill(*seen.between(0, PROMPT))
    check(model, policies, PROMPT)
    for step in range(PROMPT, PROMPT + STEPS):
        for policy in policies.values():
            output = policy.step(*seen.between(step, step + 1))
            assert output.shape == seen.query[..., :1, :].shape
            assert output.isfinite().all()
        check(model, policies, step + 1)


def test_every_policy_is_run():
    assert {spec.partition(":")[0] for spec, _ in SPECS} == set(POLICIES.names())
