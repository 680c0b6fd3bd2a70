"""Policies in torch: their caches are as predicted after every step, and they keep the tokens that they should.

Which tokens those are is worked out again, slowly: sequence by sequence, head by head, with a list of positions and the
sums of each, from the definitions of the papers. Both run in float64, so that no rounding decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from policy_runs import (
    GQA,
    MHA,
    MODELS,
    PROMPT,
    RUNS,
    SPECS,
    STEPS,
    Seen,
    changed,
    check,
    check_every_step,
    once_each,
    policies_of,
)
from torch import Tensor

import kvcalc
from kvcalc.model import Applied
from kvcalc.verify import child, measure
from kvcalc.verify.measure import verify
from kvcalc.verify.policies import POLICIES
from kvcalc.verify.policies.h2o import H2O
from kvcalc.verify.policies.h2o_flexgen import FlexGenH2O

SHORT = 40
"""Steps of the slow references."""


@pytest.mark.parametrize(("spec", "name", "steps"), RUNS)
def test_a_policy_takes_the_predicted_bytes_after_every_step(spec, name, steps):
    check_every_step(spec, name, steps)


def test_a_policy_that_keeps_a_token_more_is_noticed():
    model = changed("tova:cache_size=30", "gqa")
    policies = policies_of(changed("tova:cache_size=31", "gqa"))
    for policy in policies.values():
        policy.prefill(*Seen.random(GQA, PROMPT).between(0, PROMPT))
    with pytest.raises(AssertionError):
        check(model, policies, PROMPT)


def test_every_policy_is_run():
    assert {spec.partition(":")[0] for spec, _ in SPECS} == set(POLICIES.names())


# ---- which tokens


class Slow:
    """One sequence of one layer: which positions each KV head keeps, and the sums that they received."""

    def __init__(self, seen: Seen, sequence: int) -> None:
        self.query, self.key, self.value = (rows[sequence] for rows in seen)
        self.heads, self.kv_heads = len(self.query), len(self.key)
        self.kept = [list(range(PROMPT)) for _ in range(self.kv_heads)]
        self.given = [defaultdict(float) for _ in range(self.heads)]

    def group(self, kv_head: int) -> range:
        """Query heads of a KV head."""
        size = self.heads // self.kv_heads
        return range(kv_head * size, (kv_head + 1) * size)

    def weights(self, head: int, position: int, positions: list[int]) -> dict[int, float]:
        """What the query of a position gives each of these positions."""
        kv_head = head * self.kv_heads // self.heads
        width = self.query.shape[-1]
        exps = (self.key[kv_head, positions] @ self.query[head, position] / width**0.5).exp().tolist()
        total = sum(exps)
        return {p: exp / total for p, exp in zip(positions, exps, strict=True)}

    def observe_prompt(self) -> None:
        for head in range(self.heads):
            for position in range(PROMPT):
                for p, weight in self.weights(head, position, list(range(position + 1))).items():
                    self.given[head][p] += weight

    def observe(self, position: int) -> None:
        for kv_head in range(self.kv_heads):
            for head in self.group(kv_head):
                for p, weight in self.weights(head, position, self.kept[kv_head]).items():
                    self.given[head][p] += weight

    def mean(self, kv_head: int, of_head: Callable[[int], float]) -> float:
        return sum(of_head(head) for head in self.group(kv_head)) / len(self.group(kv_head))

    def keep(self, kv_head: int, score: Callable[[int], float], best: int, newest: int = 0) -> None:
        """The best by score, and the newest."""
        kept = self.kept[kv_head]
        if len(kept) <= best + newest:
            return
        older, last = kept[: len(kept) - newest], kept[len(kept) - newest :]
        self.kept[kv_head] = sorted(sorted(older, key=score, reverse=True)[:best]) + last


def h2o(slow: Slow) -> Iterator[None]:
    slow.observe_prompt()
    for position in range(PROMPT, PROMPT + SHORT + 1):
        for head in range(slow.kv_heads):
            slow.keep(head, lambda p, head=head: slow.given[head][p], best=6, newest=20)
        yield
        for kept in slow.kept:
            kept.append(position)
        slow.observe(position)


def important(slow: Slow, norms: Tensor, kv_head: int, position: int) -> float:
    """Sinks above all; else the attention received so far times the norm of the value."""
    if position < 3:
        return float("inf")
    return norms[kv_head, position].item() * slow.mean(kv_head, lambda head: slow.given[head][position])


def vatp(slow: Slow) -> Iterator[None]:
    norms = slow.value.abs().sum(dim=-1)
    slow.observe_prompt()
    heavy, recent = int(0.3 * PROMPT), int(0.2 * PROMPT)
    for position in range(PROMPT, PROMPT + SHORT + 1):
        for h in range(slow.kv_heads):
            slow.keep(h, partial(important, slow, norms, h), best=heavy, newest=recent)
        yield
        for kept in slow.kept:
            kept.append(position)
        slow.observe(position)


def tova(slow: Slow) -> Iterator[None]:
    for position in range(PROMPT - 1, PROMPT + SHORT):
        if position >= PROMPT:
            for kept in slow.kept:
                kept.append(position)
        each = [slow.weights(head, position, slow.kept[0]) for head in range(slow.heads)]
        for head in range(slow.kv_heads):
            slow.keep(head, lambda p, each=each: sum(weights[p] for weights in each), best=30)
        yield


def streaming(slow: Slow) -> Iterator[None]:
    for position in range(PROMPT, PROMPT + SHORT + 1):
        slow.kept = [kept[:4] + kept[4:][-20:] for kept in slow.kept]
        yield
        slow.kept = [[*kept, position] for kept in slow.kept]


def streaming_by_ratio(slow: Slow) -> Iterator[None]:
    slow.kept = [kept[:4] + kept[-(int(PROMPT * (1 - 0.4)) - 4) :] for kept in slow.kept]
    yield from every_later_token(slow)


def every_later_token(slow: Slow) -> Iterator[None]:
    for position in range(PROMPT, PROMPT + SHORT + 1):
        yield
        slow.kept = [[*kept, position] for kept in slow.kept]


def votes(slow: Slow, kv_head: int, window: int) -> Callable[[int], float]:
    """The window's attention, the mean of it over five neighbours."""
    given = [
        slow.weights(head, at, list(range(at + 1)))
        for head in slow.group(kv_head)
        for at in range(PROMPT - window, PROMPT)
    ]
    vote = [sum(weights[p] for weights in given) for p in range(PROMPT - window)]
    return lambda p: sum(vote[max(0, p - 2) : p + 3])


def snapkv(slow: Slow) -> Iterator[None]:
    for head in range(slow.kv_heads):
        slow.keep(head, votes(slow, head, 8), best=30 - 8, newest=8)
    yield from every_later_token(slow)


def mean_received(slow: Slow, kv_head: int, position: int) -> float:
    """Of the queries of the prompt that saw the token."""
    return slow.mean(kv_head, lambda head: slow.given[head][position]) / (PROMPT - position)


def observed(slow: Slow) -> Iterator[None]:
    slow.observe_prompt()
    for h in range(slow.kv_heads):
        slow.keep(h, partial(mean_received, slow, h), best=int(PROMPT * (1 - 0.4)))
    yield from every_later_token(slow)


def l2_norm(slow: Slow) -> Iterator[None]:
    norms = slow.key.norm(dim=-1)
    for head in range(slow.kv_heads):
        slow.keep(head, lambda p, head=head: -norms[head, p].item(), best=-(-PROMPT * 3 // 10))
    yield from every_later_token(slow)


def flexgen(slow: Slow) -> Iterator[None]:
    k = int(0.2 * PROMPT)
    slow.observe_prompt()
    for head in range(slow.kv_heads):
        slow.keep(head, lambda p, head=head: slow.given[head][p], best=k, newest=k - 1)
    for position in range(PROMPT, PROMPT + SHORT + 1):
        yield
        for head in range(slow.kv_heads):
            if len(slow.kept[head]) == 2 * k:
                older = [p for p in slow.kept[head] if p <= position - 1 - (k - 1)]
                slow.kept[head].remove(min(older, key=lambda p, head=head: slow.given[head][p]))
            slow.kept[head].append(position)
        slow.observe(position)


REFERENCES = {
    "h2o:hh_size=6,recent_size=20": (h2o, "mha"),
    f"h2o:compression_ratio=0.4,prompt_tokens={PROMPT}": (observed, "mha gqa"),
    f"h2o-flexgen:hh_ratio=0.2,prompt_tokens={PROMPT}": (flexgen, "mha"),
    f"vatp:heavy_ratio=0.3,recent_ratio=0.2,sink_len=3,prompt_tokens={PROMPT}": (vatp, "mha gqa"),
    "tova:cache_size=30": (tova, "mha gqa"),
    "streaming-llm:start_size=4,recent_size=20": (streaming, "mha gqa"),
    f"streaming-llm:compression_ratio=0.4,prompt_tokens={PROMPT}": (streaming_by_ratio, "mha gqa"),
    f"snapkv:max_capacity_prompt=30,window_size=8,prompt_tokens={PROMPT}": (snapkv, "mha gqa"),
    f"l2-norm:keep_ratio=0.3,prune_after=10,prompt_tokens={PROMPT}": (l2_norm, "mha gqa"),
}


@pytest.fixture(autouse=True)
def no_rounding(request, monkeypatch):
    """Sums as exact as the reference's, where the question is which tokens stay."""
    if "right_tokens" in request.node.name:
        monkeypatch.setattr(H2O, "score_dtype", torch.float64)
        monkeypatch.setattr(FlexGenH2O, "score_dtype", torch.float64)


@pytest.mark.parametrize(
    ("spec", "name"),
    once_each([(spec, name) for spec, (_, names) in REFERENCES.items() for name in reversed(names.split())]),
)
def test_the_right_tokens_stay(spec, name):
    reference, _ = REFERENCES[spec]
    model = changed(spec, name)
    seen = Seen.random(MODELS[name], PROMPT + SHORT + 1, dtype=torch.float64)
    policy = policies_of(model)[0]
    policy.prefill(*seen.between(0, PROMPT))
    slow = [Slow(seen, sequence) for sequence in range(len(seen.query))]
    expected = zip(*(reference(each) for each in slow), strict=True)
    for step, _ in enumerate(expected, PROMPT):
        kept = [[sorted(p for p in head if p >= 0) for head in sequence] for sequence in policy.positions.tolist()]
        assert kept == [[sorted(head) for head in each.kept] for each in slow], f"after {step} tokens"
        if step < PROMPT + SHORT:
            policy.step(*seen.between(step, step + 1))
    assert step == PROMPT + SHORT


def test_pyramid_layers_keep_the_best_of_snapkv_each_its_own_number():
    """Layer by layer the same votes, cut at other places."""
    spec = f"max_capacity_prompt=30,window_size=8,prompt_tokens={PROMPT}"
    seen = Seen.random(GQA, PROMPT, dtype=torch.float64)
    kept = {}
    for layer, policy in policies_of(changed(f"pyramidkv:{spec}", "gqa")).items():
        policy.prefill(*seen.between(0, PROMPT))
        kept[layer] = policy.positions[0, 0].tolist()
    slow = Slow(seen, 0)
    order = sorted(range(PROMPT - 8), key=votes(slow, 0, 8), reverse=True)
    for positions in kept.values():
        number = len(positions) - 8
        assert positions == sorted(order[:number]) + list(range(PROMPT - 8, PROMPT))
    assert len(kept[0]) > len(kept[1]) > len(kept[2])


def test_what_h2o_masks_is_seen_by_nobody_and_stays():
    seen = Seen.random(MHA, PROMPT + STEPS, dtype=torch.float64)
    policy = policies_of(changed("h2o-mask-only", "mha"))[0]
    policy.prefill(*seen.between(0, PROMPT))
    slow, budget = Slow(seen, 0), int(0.1 * PROMPT)
    slow.observe_prompt()
    for position in range(PROMPT, PROMPT + SHORT):
        for head in range(slow.kv_heads):
            everything = list(range(position))
            slow.kept[head] = everything
            slow.keep(head, lambda p, head=head: slow.given[head][p], best=budget, newest=budget)
            assert policy.mask[0, head].nonzero().flatten().tolist() == [*slow.kept[head], position]
            slow.kept[head].append(position)
        slow.observe(position)
        policy.step(*seen.between(position, position + 1))
        assert policy.key.shape[-2] == position + 1


# ---- on the command line, and through the API


@pytest.mark.parametrize(("spec", "name"), once_each([(spec, names.split()[-1]) for spec, names in SPECS]))
def test_verify_runs_what_a_method_keeps(spec, name):
    """A model of three layers, each held against its prediction; 62 tokens, so that one follows a known prompt."""
    measured = verify(changed(spec, name), tokens=PROMPT + 1, sequences=2, kv_dtype="fp16", device="cpu")
    assert measured.equal, measured.to_dict()
    assert {tensor.name for tensor in measured.tensors} >= {"k", "v"} or spec.startswith(("duo", "ada", "fast", "dm"))


@pytest.mark.parametrize(
    "spec", ["kivi:residual_length=32", "quanto:q_group_size=32,residual_length=16", "per-token-head"]
)
def test_verify_runs_quantised_caches(spec):
    model = kvcalc.apply_method(kvcalc.load({**GQA, "head_dim": 32}), spec)
    assert verify(model, tokens=PROMPT + 3, sequences=2, kv_dtype="fp16", device="cpu").equal


@pytest.mark.parametrize("tokens", [1, 2, 40])
def test_short_prompts_of_a_single_layer(tokens):
    """A pyramid of one layer has no step, budgets larger than the prompt keep it, and the smallest keep a token."""
    model = kvcalc.load({**MHA, "num_layers": 1, "head_dim": 32})
    for spec in (
        "pyramidkv:max_capacity_prompt=20,window_size=4",
        "ada-kv:base_capacity=20,window_size=4,pyramid=true,prompt_tokens=1",
        f"pyramidkv:compression_ratio=0.5,prompt_tokens={tokens + 5},window_size=4",
        f"ada-kv:compression_ratio=0.9,prompt_tokens={tokens + 5},window_size=4",
        "snapkv:max_capacity_prompt=10,window_size=8",
        "tova:cache_size=1",
        "h2o:hh_size=1,recent_size=1",
        "vatp:heavy_ratio=0.01,recent_ratio=0.01",
        "l2-norm:keep_ratio=0.01,prune_after=1",
        "kvquant:first_few_fp16=100",
        "turboquant:package=true",
        "kivi",
    ):
        measured = verify(kvcalc.apply_method(model, spec), tokens=tokens + 6 * ("prompt_" in spec), device="cpu")
        assert measured.equal, (spec, measured.to_dict())


def test_a_view_of_the_whole_prompt_is_predicted_and_found():
    measured = verify(changed("l2-norm:keep_ratio=0.5,prune_after=10", "gqa"), tokens=50, device="cpu")
    assert measured.equal
    assert {tensor.storage_bytes // tensor.logical_bytes for tensor in measured.tensors} == {2}


def test_a_wrong_prediction_is_found(monkeypatch):
    model = changed("snapkv:max_capacity_prompt=30,window_size=8", "gqa")
    other = Applied("snapkv", {**model.methods[0].arguments, "max_capacity_prompt": 31})
    measured = verify(replace(model, methods=(other,)), tokens=50, device="cpu")
    assert not measured.equal


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--method snapkv --method kivi", "snapkv and kivi can be sized together, but only run one at a time"),
        ("--method snapkv --tokens 5000", "policies are run on prompts of at most 4,096 tokens, not 5,000"),
        ("--method snapkv --device meta", "snapkv is not run on meta, where there are no values to select by"),
        ("--method snapkv --dtype fp8", "snapkv is not run in fp8"),
        ("--method snapkv --tp 2", "snapkv runs only in one process, not on ranks"),
        ("--method snapkv:prompt_tokens=11", "snapkv has a prompt of 11 tokens, but only 10 are cached"),
        ("--preset llama-2-7b --layers 1 --method h2o-flexgen:hh_ratio=0.05", "hh_ratio (0.05) of a prompt of 10 tokens is less than one token"),
    ],
)  # fmt: skip
def test_what_is_not_run_under_a_method(cli, monkeypatch, line, message):
    monkeypatch.setattr(child, "in_child", lambda work, model, **named: measure.verify(model, **named))
    asked = "".join(f"{name} " for name in ("--tokens 10", "--preset llama3-8b") if name.split()[0] not in line)
    outcome = cli(f"verify {asked}{line}")
    assert outcome.code == 2
    assert outcome.stderr.startswith(message)
