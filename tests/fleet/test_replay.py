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


def two_tiers(requests: list[Request], device_blocks: int, host_blocks: int) -> int:
    """Tokens hit by two lists of blocks, the least recently used first, with every token in full: one by one."""
    device: list[tuple[object, ...]] = []
    host: list[tuple[object, ...]] = []
    hits = 0
    for request in requests:
        pieces = (*request.prompt, (request.output_segment, request.output_tokens - 1))
        tokens = [(segment, at) for segment, length in pieces for at in range(length)]
        blocks = [tuple(tokens[:end]) for end in range(UNIT, len(tokens) + 1, UNIT)]
        of_prompt, sought = request.prompt_tokens // UNIT, (request.prompt_tokens - 1) // UNIT
        found = 0
        for tier in (device, host):
            while found < sought and blocks[found] in tier:
                found += 1
        hits += found * UNIT
        for tier, used, most in ((device, blocks, device_blocks), (host, blocks[:of_prompt], host_blocks)):
            tier[:] = [*(each for each in tier if each not in used), *reversed(used)][-most:] if most else []
    return hits


@given(st.integers(0, 2**32 - 1).map(Random), st.integers(1, 120), st.integers(0, 120))
def test_one_pass_says_what_a_host_tier_of_any_size_adds(random: Random, device_blocks: int, host_blocks: int):
    requests = sessions(random)
    distances = Distances(UNIT, device_blocks)
    for request in requests:
        distances.add(request)
    said = distances.hit_rate(device_blocks, host_blocks) * distances.prompt_tokens
    assert said == two_tiers(requests, device_blocks, host_blocks)
    assert distances.hit_rate(device_blocks) <= distances.hit_rate(device_blocks, host_blocks) <= 1


def test_outputs_are_not_on_the_host():
    """A turn of 64 and 65 tokens: the next one finds all 8 blocks on a device, and of a host tier the prompt's 4."""
    turns = [Request(0, 0, (("a", 64),), "b", 65), Request(1, 999, (("a", 64), ("b", 65), ("c", 9)), None, 1)]
    for device_blocks, tokens in ((8, 128), (1, 64)):
        distances = Distances(UNIT, device_blocks)
        for turn in turns:
            distances.add(turn)
        assert distances.hit_rate(device_blocks, 100) * distances.prompt_tokens == tokens


def test_a_host_tier_of_the_settings_is_among_the_sizes():
    """3 GiB of two ranks that hold 1 MiB of a block each."""
    model, settings = kvcalc.load("llama-3-8b"), {"kv_offloading_size": 3}
    asked = {"engine_settings": settings, "scheduler": {"num_gpu_blocks": 1001}, "parallel": kvcalc.Parallel(tp=2)}
    report = kvcalc.replay(model, [], **asked, curve=True)
    assert report.block_bytes == 2**20
    assert [blocks for blocks, _ in report.host_curve] == [1000, 1536, 2000, 4000, 8000, 16000, 32000]
    without = kvcalc.replay(model, [], **asked)
    assert any("those of only the device's cache" in note for note in without.notes)


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
    with pytest.raises(
        kvcalc.NotApplicableError, match="hit rates by cache size need a single group of full attention"
    ):
        kvcalc.replay(kvcalc.load("gpt-oss-20b"), [], scheduler={"num_gpu_blocks": 20_000}, curve=True)


def test_windows_are_replayed_step_by_step_and_counted_as_well():
    requests = [{"prompt": [["a", 600], [None, 40 * n + 1]], "output_tokens": 9, "arrival_step": n} for n in range(20)]
    asked = {"scheduler": {"num_gpu_blocks": 20_000}, "requests": requests}
    report, every = (kvcalc.replay(kvcalc.load("gpt-oss-20b"), **asked, every_step=each) for each in (False, True))
    assert report == every._replace(steps=())
    assert report.totals.hit_tokens_first > 0
