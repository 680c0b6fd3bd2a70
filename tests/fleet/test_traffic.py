"""Users of different lengths: what one holds, what all of them do, and the doors to it."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.cache.dtypes import BF16
from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError
from kvcalc.fleet.demand import plan_of
from kvcalc.fleet.traffic import loads_of, most_users, users_of
from kvcalc.fleet.traffic.distribution import Blocks, exact_share, exact_weights, steps_by_tokens
from kvcalc.fleet.traffic.load import Load
from kvcalc.fleet.traffic.mix import Mix
from kvcalc.fleet.traffic.store import Store, stores_of, stores_of_scheduler
from kvcalc.fleet.traffic.workload import Lengths, Workload, fitted, parse_lengths
from kvcalc.io.workloads import mix_of, prefixes_of

P99 = Fraction(99, 100)
SMALL = st.lists(st.integers(0, 3), min_size=2, max_size=5).filter(lambda weights: sum(weights[1:]) > 0)


def brute(weights: list[int], users: int, within: int) -> Fraction:
    """Every way in which users can hold something, one by one."""
    ways = product(range(len(weights)), repeat=users)
    fits = sum(prod(weights[each] for each in way) for way in ways if sum(way) <= within)
    return Fraction(fits, sum(weights) ** users)


@given(SMALL, st.integers(1, 5), st.integers(0, 20))
def test_equal_to_trying_every_way(weights, users, within):
    assert exact_share(weights, users, within) == brute(weights, users, within)
    assert Blocks(weights, 20).share_within(users, within) == brute(weights, users, within)


@given(SMALL, st.integers(1, 5), st.integers(1, 30))
def test_most_users_are_those_that_fit_and_no_more(weights, divisor, num_blocks):
    weights = [0, *weights[1:]]
    blocks, share = Blocks(weights, num_blocks), 1 - Fraction(1, divisor + 1)
    users = blocks.most_users(share)
    assert users == 0 or exact_share(weights, users, num_blocks) >= share
    assert exact_share(weights, users + 1, num_blocks) < share


@given(st.lists(st.integers(0, 50), min_size=3, max_size=40).filter(any), st.integers(1, 60))
def test_floats_are_as_near_as_they_say(weights, users):
    """Sums of sums, and the power of a spectrum where what users hold ends in its period."""
    blocks = Blocks(weights, 300)
    found = [blocks._by_doubling(users)] + [blocks._by_spectrum(users)] * blocks._ends_in_time(users)
    exact = exact_weights(weights, users)
    total = sum(weights) ** users
    for floats in found:
        so_far = 0
        for share, weight in zip(floats.cumsum(), exact, strict=False):
            so_far += weight
            assert abs(share - so_far / total) < 1e-12
    if blocks._ends_in_time(users):
        for place in range(blocks._room + 1):
            assert abs(blocks._sum_of_spectrum(users, place) - sum(exact[: place + 1]) / total) < 1e-12


@pytest.mark.parametrize("users", [60, 700, 5000])
def test_the_loud_frequencies_alone_sum_to_the_same(users):
    weights = [0] * 20 + [3, 1, 4, 1, 5] * 13
    blocks = Blocks(weights, 60 * users)
    assert blocks._ends_in_time(users)
    sums = blocks._by_spectrum(users).cumsum()
    heard = (blocks._loudness * users > -41).sum()
    assert users == 60 or heard < len(blocks._spectrum) / 10
    for place in range(0, blocks._room + 1, 977):
        assert abs(blocks._sum_of_spectrum(users, place) - sums[place]) < 1e-11


@pytest.mark.parametrize("users", [1, 7, 40])
def test_the_spectrum_is_used_where_it_matters(users):
    assert Blocks([0, 5, 3, 1], 300)._ends_in_time(users)
    assert not Blocks([0, 5, 3, 1], 300)._ends_in_time(2000)


@given(SMALL, st.integers(1, 30), st.integers(1, 4))
def test_longer_requests_never_fit_more(weights, num_blocks, more):
    """A mix with some requests longer than before holds more at every step, so that no more users fit."""
    weights = [0, *weights[1:]]
    longer = [*([0] * more), *weights]
    mixed = [a + b for a, b in zip([*weights, *([0] * more)], longer, strict=True)]
    users = [Blocks(each, num_blocks).most_users(P99) for each in (weights, mixed, longer)]
    assert users == sorted(users, reverse=True)


@given(st.integers(1, 40), st.integers(1, 400))
def test_one_length_is_deterministic(length, num_blocks):
    blocks = Blocks([0] * length + [7], num_blocks)
    assert blocks.most_users(P99) == blocks.most_users(Fraction(1)) == num_blocks // length
    assert (blocks.mean, blocks.most) == (length, length)


def test_a_user_holds_each_step_of_a_request_by_its_blocks():
    """20 tokens and 15 more, the last of which is never written: steps at 20 to 34 tokens, in blocks of 16."""
    assert steps_by_tokens([(20, 15, 2)], 1024) == dict.fromkeys(range(20, 35), 2)
    assert steps_by_tokens([(20, 15, 1)], 30) == dict.fromkeys(range(20, 30), 1)
    assert weights_of((20, 15, 2)) == (0, 0, 13, 2)
    assert weights_of((20, 15, 1), longest=30) == (0, 0, 1)


def blocks_of_16(tokens: int) -> int:
    return -(-tokens // 16)


def weights_of(*pairs: tuple[int, int, int], longest: int | None = None, **mix: Any) -> tuple[int, ...]:
    store = Store("blocks", "block", 1000, 1, blocks_of_16, lambda t: t // 16, lambda _p, t: t // 16, longest)
    return Load(store, Mix(Workload(pairs, ()), **mix)).weights


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("name", ["llama-3-8b", "gpt-oss-20b", "gemma-3-27b", "qwen3-next-80b-a3b"])
def test_a_request_that_generates_holds_what_a_replay_says(name, asynchronous):
    """At every step from the second on: the first one reads the prompt."""
    model = kvcalc.load(name)
    settings = {"num_gpu_blocks": 9000, "max_model_len": 4096, "async_scheduling": asynchronous}
    requests = [{"prompt": [["a", 700]], "output_segment": "b", "output_tokens": 1500}]
    report = kvcalc.replay(model, requests, scheduler=settings)
    scheduler = Engine.of("vllm@0.32.0").scheduler(model, BF16, settings)
    steps = [step for step in report.steps if step.scheduled_tokens == 1]
    assert len(steps) == 1499
    assert [step.used_blocks for step in steps[2:]] == [
        scheduler.held_blocks(701 + number) for number in range(2, len(steps))
    ]


@pytest.mark.parametrize("interval", [0, None, 4096])
@pytest.mark.parametrize("name", ["llama-3-8b", "gpt-oss-20b", "qwen3-next-80b-a3b", "llama-4-scout", "jamba"])
@pytest.mark.parametrize(("prompt", "output"), [(700, 1500), (1024, 64), (4097, 300), (3, 5)])
def test_an_idle_session_keeps_what_its_next_turn_hits(name, interval, prompt, output):
    """The next turn of a replay sends prompt and output again; an interval must be a multiple of the blocks."""
    model = kvcalc.load(name)
    settings = {"num_gpu_blocks": 20_000, "max_model_len": 8192, "async_scheduling": False}
    try:
        settings["prefix_cache_retention_interval"] = interval
        scheduler: Any = Engine.of("vllm@0.32.0").scheduler(model, BF16, settings)
    except InvalidValueError:
        return
    turns = [
        {"id": 0, "prompt": [["a", prompt]], "output_segment": "b", "output_tokens": output},
        {"id": 1, "arrival_step": output + 9, "prompt": [["a", prompt], ["b", output], [None, 50]], "output_tokens": 2},
    ]
    hits = kvcalc.replay(model, turns, scheduler=settings).hits[1]
    assert hits == scheduler.resumed_tokens(prompt, prompt + output - 1)
    assert bool(hits) == bool(scheduler.kept_blocks(prompt, prompt + output - 1))


def test_an_idle_session_counts_as_long_as_it_is_idle():
    """Requests of 20 + 15 tokens, a quarter of the time: 15 steps at 2 or 3 blocks, 45 with the 2 full ones of 34."""
    assert weights_of((20, 15, 1), active=Fraction(1, 4)) == (0, 0, (13 + 45) // 2, 1)


def test_groups_of_users_have_prefixes_of_their_own():
    """Half begin with 16 tokens, one block, which is not theirs alone."""
    half = prefixes_of("16:1,0:1", 1)
    assert weights_of((20, 15, 1), prefixes=half) == (0, 13, 13 + 2, 2)
    store = Store("blocks", "block", 1000, 1, blocks_of_16, lambda t: t // 16)
    assert Load(store, Mix(Workload(((200, 1, 1),), ()), prefixes=prefixes_of({32: 1, 160: 9}, 3))).prefix_units == 36
    assert half.words == "50% none, 50% 16 tokens"


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=3), st.data())
def test_a_mix_is_equal_to_trying_every_way(pairs, data):
    users, num_blocks = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
    held = Counter[int]()
    for prompt, output, times in pairs:
        for step in range(output):
            held[blocks_of_16(prompt + step)] += times
    fits = sum(prod(held[each] for each in way) for way in product(held, repeat=users) if sum(way) <= num_blocks)
    load = Load(Store("blocks", "block", num_blocks, 1, blocks_of_16), Mix(Workload(tuple(pairs), ())))
    assert load.share(users) == float(Fraction(fits, held.total() ** users))


@given(SMALL, st.integers(1, 40), st.sampled_from([50, 90, 99, 100]))
def test_what_users_need_is_enough_and_no_less_is(weights, users, percent):
    weights, share = [0, *weights[1:]], Fraction(percent, 100)
    pairs = tuple((16 * number, 1, weight) for number, weight in enumerate(weights) if weight)
    store = Store("blocks", "block", 5, 1, blocks_of_16)
    needed = Load(store, Mix(Workload(pairs, ()), share)).needed(users)
    assert exact_share(weights, users, needed) >= share
    assert share == 1 or exact_share(weights, users, needed - 1) < share
    assert share < 1 or needed == users * max(number for number, weight in enumerate(weights) if weight)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("llama-3-8b", "ideal"),
        ("jamba", "ideal"),
        ("gpt-oss-20b", "sglang"),
        ("qwen3-next-80b-a3b", "sglang"),
        ("llama-3-8b", "tensorrt_llm"),
        ("gpt-oss-20b", "vllm@0.29"),
        ("llama-3-8b", "vllm@0.32.0"),
    ],
)
def test_one_length_fits_as_often_as_the_plan_says(name, engine):
    """Whatever the engine gives out; users of one length all the time are what `fit` counts."""
    model, chosen, cache_bytes = kvcalc.load(name), Engine.of(engine), 30 * 10**9
    plan = plan_of(model, chosen, BF16, kvcalc.Parallel())
    stores = stores_of(model, chosen, BF16, kvcalc.Parallel(), plan, cache_bytes)
    loads = loads_of(stores, Mix(Workload.independent(parse_lengths("5000"), None)))
    assert most_users(loads) == plan.max_sequences(5000, cache_bytes)


def test_a_wider_mix_never_fits_more():
    """Of the same mean, 3,000 tokens."""
    scheduler: Any = Engine.of("vllm@0.32.0").scheduler(kvcalc.load("llama-3-8b"), BF16, {"num_gpu_blocks": 5000})
    stores = stores_of_scheduler(scheduler)
    users = [
        most_users(loads_of(stores, Mix(Workload.independent(parse_lengths(text), None))))
        for text in ("3000", "2500:90,7500:10", "2000:80,7000:20")
    ]
    assert users == sorted(users, reverse=True)


def asked(text: str, output: str | None = None, **more: Any) -> Any:
    model, engine = kvcalc.load("llama-3-8b"), Engine.of("vllm@0.32.0")
    scheduler = engine.scheduler(model, BF16, {"num_gpu_blocks": 2001})
    outputs = None if output is None else parse_lengths(output)
    mix = mix_of(Workload.independent(parse_lengths(text), outputs), **more)
    return users_of(model, engine, stores_of_scheduler(scheduler), mix)


def test_users_of_one_context_are_those_that_fit():
    report = asked("1000")
    assert (report.users, report.users_at_most, report.users_at_mean) == (2000 // 63, 2000 // 63, 2000 // 63)
    assert report.next_share == 0


def test_a_shared_prefix_is_held_once():
    """2,048 tokens are 128 blocks; 48 more for what comes behind."""
    alone, shared = asked("2800"), asked("2800", shared_prefix=2048, prefixes=2)
    assert (alone.users, shared.users) == (2000 // 175, (2000 - 2 * 128) // (175 - 128))
    assert shared.prefix_blocks == 256


def test_more_of_the_time_takes_fewer_users():
    users = [asked("1K:50,4K:50", "100", quantile=share).users for share in (50, 90, 99)]
    assert users == sorted(users, reverse=True)
    at_mean, at_most = asked("1K:50,4K:50", "100").users_at_mean, asked("1K:50,4K:50", "100").users_at_most
    assert at_most < users[-1] < at_mean


def test_quantiles_are_fitted_from_above():
    """Half up to 100, spread evenly from there to 200, in two hundredths: 101 of 200 is at a hundredth of the way."""
    lengths = fitted([(Fraction(1, 2), 100), (Fraction(1), 200)])
    assert lengths.weights[0] == (100, 100)
    assert lengths.weights[1:] == tuple((100 + point, 1) for point in range(1, 101))
    assert (lengths.longest, lengths.quantile(Fraction(1, 2)), lengths.quantile(Fraction(3, 4))) == (200, 100, 150)


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 10_000)), max_size=4), st.integers(10_000, 20_000))
def test_a_fit_has_the_quantiles_that_were_asked_for(points, longest):
    tokens = sorted(each for _, each in points)
    asked_for = dict(zip(sorted({Fraction(at, 100) for at, _ in points}), tokens, strict=False)) | {
        Fraction(1): longest
    }
    lengths = fitted(list(asked_for.items()))
    assert all(lengths.quantile(share) == at for share, at in asked_for.items())


@pytest.mark.parametrize(
    ("text", "weights"),
    [("8K", ((8192, 1),)), ("1K:50,8K:30", ((1024, 50), (8192, 30))), ("10:1,10:2", ((10, 3),))],
)
def test_lengths_are_read(text, weights):
    assert parse_lengths(text) == Lengths(weights)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p50=4K", "has no max: the longest request decides what must fit"),
        ("p50=4K,p50=8K,max=9K", "names a quantile twice"),
        ("p50=4K,max=2K", "has a higher quantile with fewer tokens"),
        ("q50=4K,max=9K", "which is not a quantile"),
        ("p500=4K,max=9K", "which is not a quantile"),
        ("4K:1,8K", "without a weight"),
        ("4K:0", "weight"),
        ("many", "many"),
    ],
)
def test_other_forms_are_refused(text, words):
    with pytest.raises(InvalidValueError, match=words):
        parse_lengths(text)


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        ("9K", {}, r"a prompt of 9216 tokens is not shorter than max_model_len \(8,192\)"),
        ("2K", {"shared_prefix": 2048}, "is not longer than its shared prefix of 2048"),
    ],
)
def test_what_the_engine_refuses_is_refused(text, more, words):
    with pytest.raises(InvalidValueError, match=words):
        asked(text, **more)


@pytest.mark.parametrize("active", [Fraction(1), Fraction(1, 3)])
@pytest.mark.parametrize("prefix", [0, 33])
def test_tokens_of_all_are_those_of_every_way(active, prefix):
    """A few users of requests of 40 + 3 and 70 + 2 tokens: every step of each, with every step of the others."""
    settings = {"num_gpu_blocks": 13, "max_model_len": 1024}
    engine, model = Engine.of("vllm@0.32.0"), kvcalc.load("llama-3-8b")
    stores = stores_of_scheduler(engine.scheduler(model, BF16, settings))
    workload = Workload(((40, 3, 1), (70, 2, 1)), ())
    report = users_of(model, engine, stores, Mix(workload, P99, prefixes_of(prefix or None, 1), active))
    shared = prefix // 16 * 16
    one = Counter({tokens - shared: 2 * active.numerator for tokens in (40, 41, 42, 70, 71)})
    for prompt, output in ((40, 3), (70, 2)):
        one[(prompt + output - 1) // 16 * 16 - shared] += 5 * (active.denominator - active.numerator)
    total = sum(one.values())
    ways = Counter[int]()
    for way in product(one.items(), repeat=report.users):
        ways[sum(tokens for tokens, _ in way)] += prod(weight for _, weight in way)
    assert 2 <= report.users <= 5
    assert report.expected_tokens == shared + report.users * Fraction(sum(t * w for t, w in one.items()), total)
    for name, share in (("p50", Fraction(1, 2)), ("p90", Fraction(9, 10)), ("p99", P99)):
        enough = next(
            tokens
            for tokens in sorted(ways)
            if sum(weight for each, weight in ways.items() if each <= tokens) >= share * total**report.users
        )
        assert dict(report.held_tokens)[name] == shared + enough


@pytest.mark.parametrize("engine", ["vllm", "vllm@0.33.0", "sglang", "tensorrt_llm", "ideal"])
def test_blocks_hold_the_tokens(cli, engine):
    line = f"traffic llama3-8b --gpu l40s --context 1K:5,4K:1 --output 200 -e {engine} --format json"
    said = json.loads(cli(line).stdout)
    for name, tokens in said["held_tokens"].items():
        assert said["held_bytes"][name] == said["held_blocks"][name] * said["block_bytes"]
        assert 0.97 * tokens * 2**17 <= said["held_bytes"][name] + 200 * 2**17
    assert said["expected_tokens"] == pytest.approx(said["users"] * said["mean_tokens"])
    assert said["user_tokens"]["p99"] <= 4096 + 199
