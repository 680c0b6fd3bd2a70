"""A replay through its doors: hit rates by cache size, the command, and memory in the place of blocks."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.engines.base.traffic import Request
from kvcalc.fleet.replay.distances import Distances
from tests.traffic import LLAMA

EXAMPLES = Path(__file__).parents[2] / "examples" / "traces"
UNIT = 16
BLOCKS = 400


def sessions(random: Random) -> list[Request]:
    """Turns of a few sessions, one request after another; no prompt ends with a block, so that none is cached twice."""
    found: list[Request] = []
    turns: dict[int, list[tuple[str, int]]] = {}
    for number in range(random.randint(2, 40)):
        session = random.randint(0, 5)
        before = turns.setdefault(session, [("system", 100)])
        prompt = [*before, (f"u{number}", random.randint(1, 60))]
        if sum(tokens for _, tokens in prompt) > 700:
            prompt = [("system", 100), (f"u{number}", 33)]
        if sum(tokens for _, tokens in prompt) % UNIT == 0:
            prompt[-1] = (prompt[-1][0], prompt[-1][1] + 1)
        output = random.randint(1, 40)
        found.append(Request(number, 1000 * number, tuple(prompt), f"o{number}", output))
        turns[session] = [*prompt, (f"o{number}", output)]
    return found


def hit_tokens(requests: list[Request], num_blocks: int) -> int:
    report = kvcalc.replay(
        kvcalc.load(LLAMA),
        requests,
        engine="vllm@0.32.0",
        engine_settings={"gpu": "cpu"},
        scheduler={"block_size": UNIT, "num_gpu_blocks": num_blocks + 1, "max_model_len": 1024},
        every_step=False,
    )
    return report.totals.hit_tokens_first


@given(st.integers(0, 2**32 - 1).map(Random), st.integers(64, 200))
def test_one_pass_says_what_a_cache_of_any_size_hits(random: Random, num_blocks: int):
    """To a block: the last one of a request holds a block while it runs, and nothing afterwards."""
    requests = sessions(random)
    distances = Distances(UNIT)
    for request in requests:
        distances.add(request)
    at_most, at_least = (distances.hit_rate(size) * distances.prompt_tokens for size in (num_blocks, num_blocks - 1))
    assert at_least <= hit_tokens(requests, num_blocks) <= at_most


@given(st.integers(0, 2**32 - 1).map(Random))
def test_a_larger_cache_hits_no_less(random: Random):
    distances = Distances(UNIT)
    for request in sessions(random):
        distances.add(request)
    rates = [distances.hit_rate(size) for size in range(1, 300, 7)]
    assert rates == sorted(rates)
    assert 0 <= rates[0] <= rates[-1] <= 1


def test_memory_in_the_place_of_blocks():
    """16 tokens of 4 layers with 2 heads of 64 take 32,768 bytes."""
    model, asked = kvcalc.load(LLAMA), {"engine": "vllm", "engine_settings": {"gpu": "h100"}}
    report = kvcalc.replay(model, [], **asked, available_bytes=100 * 16_384 * 2 + 5, scheduler={"max_model_len": 1024})
    assert (report.num_blocks, report.block_bytes, report.engine_version) == (99, 32_768, "0.32.0")


def test_several_groups_have_no_curve():
    with pytest.raises(kvcalc.NotApplicableError, match="one group of full attention only"):
        kvcalc.replay(kvcalc.load("gpt-oss-20b"), [], scheduler={"num_gpu_blocks": 20_000}, curve=True)


def test_windows_are_replayed_step_by_step_and_counted_as_well():
    requests = [{"prompt": [["a", 600], [None, 40 * n + 1]], "output_tokens": 9, "arrival_step": n} for n in range(20)]
    asked = {"scheduler": {"num_gpu_blocks": 20_000}, "requests": requests}
    report, every = (kvcalc.replay(kvcalc.load("gpt-oss-20b"), **asked, every_step=each) for each in (False, True))
    assert report == every._replace(steps=())
    assert report.totals.hit_tokens_first > 0
