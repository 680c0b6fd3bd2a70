"""States and tokens in pools of their own: what each lets run, and the ratio with which most users fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import kvcalc
from kvcalc.cache.dtypes import BF16
from kvcalc.engines import Engine
from kvcalc.fleet.demand import plan_of
from kvcalc.fleet.traffic import loads_of, most_users
from kvcalc.fleet.traffic.balance import balance_of
from kvcalc.fleet.traffic.mix import Mix
from kvcalc.fleet.traffic.store import stores_of
from kvcalc.fleet.traffic.workload import Workload, parse_lengths

TP2 = kvcalc.Parallel(tp=2)
ROOM = 50 * 10**9
MIX = Mix(Workload.independent(parse_lengths("p50=1K,p95=8K,max=32K"), parse_lengths("300")))
SHORT = Mix(Workload.independent(parse_lengths("200"), parse_lengths("50")))


def users_with(name: str, mix: Mix = MIX, **settings: Any) -> int:
    model, engine = kvcalc.load(name), replace(Engine.of("sglang"), **settings)
    plan = plan_of(model, engine, BF16, TP2)
    return most_users(loads_of(stores_of(model, engine, BF16, TP2, plan, ROOM), mix))


@pytest.mark.parametrize("mix", [MIX, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("name", ["qwen3-next-80b-a3b", "nemotron-h-8b", "falcon-h1-7b"])
def test_the_balanced_ratio_holds_what_it_says_and_no_other_holds_more(name, mix):
    """Ratios from a twentieth of it to twenty times it, in SGLang's own arithmetic."""
    balance = balance_of(plan_of(kvcalc.load(name), Engine.of("sglang"), BF16, TP2), ROOM, mix)
    setting, ratio = balance.setting
    assert users_with(name, mix, **{setting: ratio}) == balance.users
    assert users_with(name, mix, max_mamba_cache_size=balance.states) == balance.users
    others = [users_with(name, mix, **{setting: ratio * factor}) for factor in (0.05, 0.5, 0.9, 1.1, 2, 20)]
    assert max(others) <= balance.users
    assert users_with(name, mix) <= balance.users


def test_each_pool_says_what_it_lets_run():
    """Five states a request: 3, and 2 that track them; states of a rank by hand, 36 layers at tp 2."""
    model, engine = kvcalc.load("qwen3-next-80b-a3b"), Engine.of("sglang")
    plan = plan_of(model, engine, BF16, TP2)
    tokens, states, requests = stores_of(model, engine, BF16, TP2, plan, ROOM)
    conv_bytes = 3 * (2 * 16 * 128 + 32 * 128) // 2 * 2  # bf16
    ssm_bytes = 16 * 128 * 128 * 4  # float32
    assert states.unit_bytes == 36 * (conv_bytes + ssm_bytes)
    assert (states.held(1), states.held(100_000), states.kept(5, 9)) == (5, 5, 1)
    assert tokens.unit_bytes == 12 * 2 * 256 * 1 * 2
    assert requests.num_units == states.num_units // 5


def test_without_a_radix_cache_a_request_has_one_state_and_leaves_none():
    engine = Engine.of("sglang", {"disable_radix_cache": True})
    plan = plan_of(kvcalc.load("qwen3-next-80b-a3b"), engine, BF16, TP2)
    tokens, states, _ = stores_of(kvcalc.load("qwen3-next-80b-a3b"), engine, BF16, TP2, plan, ROOM)
    assert (states.held(1), states.kept(5, 9), tokens.kept(5, 9), tokens.shared(2048)) == (1, 0, 0, 0)


@pytest.mark.parametrize(("name", "engine"), [("llama-3-8b", "sglang"), ("qwen3-next-80b-a3b", "vllm")])
def test_other_engines_and_models_have_nothing_to_balance(name, engine):
    assert balance_of(plan_of(kvcalc.load(name), Engine.of(engine), BF16, TP2), ROOM, MIX) is None


def test_a_request_of_vllm_holds_its_states_before_its_first_token():
    """Qwen3-Next: three groups of states and one of attention in unified pages, each a block at least."""
    scheduler: Any = Engine.of("vllm@0.32.0").scheduler(kvcalc.load("qwen3-next-80b-a3b"), BF16, {"num_gpu_blocks": 99})
    assert scheduler.held_blocks(1) == 4
