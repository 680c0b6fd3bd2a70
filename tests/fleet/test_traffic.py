"""Users of different lengths: what one holds, what all of them do, and the doors to it."""

from __future__ import annotations

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
from kvcalc.fleet.traffic import users_of
from kvcalc.fleet.traffic.distribution import Blocks, exact_share, exact_weights, held_weights
from kvcalc.fleet.traffic.workload import Lengths, Workload, fitted, parse_lengths

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
    blocks = Blocks(weights, 300)
    floats = blocks._of(users).cumsum()
    exact = exact_weights(weights, users)
    total, so_far = sum(weights) ** users, 0
    for found, weight in zip(floats, exact, strict=False):
        so_far += weight
        assert abs(found - so_far / total) < 1e-12


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
    weights = held_weights([(20, 15, 2)], lambda tokens: -(-tokens // 16), 1024)
    assert weights == (0, 0, 2 * 13, 2 * 2)
    assert held_weights([(20, 15, 1)], lambda tokens: -(-tokens // 16), 30) == (0, 0, 10)


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


def asked(text: str, output: str | None = None, **more: Any) -> Any:
    model, engine = kvcalc.load("llama-3-8b"), Engine.of("vllm@0.32.0")
    scheduler = engine.scheduler(model, BF16, {"num_gpu_blocks": 2001})
    outputs = None if output is None else parse_lengths(output)
    return users_of(model, engine, scheduler, Workload.independent(parse_lengths(text), outputs), **more)


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
    users = [asked("1K:50,4K:50", "100", quantile=Fraction(share, 100)).users for share in (50, 90, 99)]
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
        ("p50=4K", "names no longest request"),
        ("p50=4K,p50=8K,max=9K", "names a quantile twice"),
        ("p50=4K,max=2K", "has a higher quantile with fewer tokens"),
        ("q50=4K,max=9K", "which is no quantile"),
        ("p500=4K,max=9K", "which is no quantile"),
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
        ("2K", {"shared_prefix": 2048}, "has nothing behind a shared prefix of 2048"),
    ],
)
def test_what_the_engine_refuses_is_refused(text, more, words):
    with pytest.raises(InvalidValueError, match=words):
        asked(text, **more)
