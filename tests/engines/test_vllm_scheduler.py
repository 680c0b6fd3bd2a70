"""vLLM's scheduler replayed, against traces that vLLM 0.32.0's own scheduler and cache manager ran.

57 traces of 16 models, a few for each way of caching and of scheduling: one batch at a time, two in flight, with drafts.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.engines import Engine
from kvcalc.engines.base.tokens import Paths, Tokens
from kvcalc.engines.base.traffic import Request
from kvcalc.engines.vllm.scheduling.pool import NULL, Pool
from kvcalc.engines.vllm.scheduling.runs import RunPool
from kvcalc.errors import InvalidValueError, NotApplicableError, UnknownNameError
from tests.traffic import LLAMA, random_requests, random_settings

DATA = Path(__file__).parents[1] / "data" / "vllm_scheduler.jsonl.gz"
SEEDED = st.integers(0, 2**32 - 1).map(Random)
FIELDS = ("id", "arrival_step", "prompt", "output_segment", "output_tokens", "priority")


@cache
def rows() -> dict[str, dict[str, Any]]:
    with gzip.open(DATA, "rt") as lines:
        return {row["id"]: row for row in map(json.loads, lines)}


def replayed(row: dict[str, Any], **changed: Any) -> kvcalc.ReplayReport:
    return kvcalc.replay(
        kvcalc.load(row["config"]),
        [dict(zip(FIELDS, request, strict=True)) for request in row["requests"]],
        engine=row["engine"],
        engine_settings=row["engine_settings"],
        scheduler=row["settings"] | changed,
    )


def in_a_row(step: Any) -> list[Any]:
    """A step as the traces have it; what ends in one step has no order there."""
    others = sorted([name, tokens] for name, tokens in step.tokens.items() if tokens != 1)
    return [
        *(step.step, step.used_blocks, step.running, step.waiting, step.scheduled_tokens, list(step.preempted)),
        *(None if step.group_blocks is None else list(step.group_blocks), step.evicted_blocks),
        *(others, sorted(step.finished), step.used_after_update),
    ]


@pytest.mark.parametrize("name", sorted(rows()))
def test_every_step_is_vllms_own(name):
    row = rows()[name]
    report = replayed(row)
    want = [[*step[:8], sorted(step[8]), sorted(step[9]), step[10]] for step in row["steps"]]
    assert [in_a_row(step) for step in report.steps] == want
    assert {str(name): tokens for name, tokens in report.hits.items()} == row["hits"]
    totals = report.totals._asdict()
    assert {field: totals[field] for field in row["totals"]} == row["totals"]


def test_the_traces_are_of_every_kind():
    kinds = {group["kind"] for row in rows().values() for group in row["groups"]}
    assert kinds == {
        *("FullAttentionSpec", "SlidingWindowSpec", "ChunkedLocalAttentionSpec", "MambaSpec", "MLAAttentionSpec"),
    }
    assert {row["settings"]["spec_method"] for row in rows().values()} == {None, "ngram", "eagle"}
    assert {row["settings"]["async_scheduling"] for row in rows().values()} == {False, True}
    assert any(row["settings"]["policy"] == "priority" for row in rows().values())


def by_turns(settings: dict[str, Any], requests: list[Request]) -> tuple[list[tuple[Any, ...]], Any]:
    engine = Engine.of("vllm@0.32.0", {"gpu": "cpu", "block_size": 32})
    scheduler = engine.scheduler(kvcalc.load(LLAMA), kvcalc.cache.dtypes.BF16, settings)
    events = scheduler.by_events()
    found: list[tuple[Any, ...]] = []

    def told(step: int, count: int, *row: Any) -> None:
        used, running, waiting, preempted, scheduled, used_after = row
        turn = (used, running, waiting, tuple(preempted), scheduled, used_after)
        found.extend((step + each, *turn) for each in range(count))

    events.run(iter(requests), told)
    return found, events


@given(SEEDED)
def test_by_events_every_step_is_the_same(random: Random):
    settings, given_requests = random_settings(random), random_requests(random)
    report = kvcalc.replay(
        kvcalc.load(LLAMA),
        given_requests,
        engine="vllm@0.32.0",
        engine_settings={"gpu": "cpu", "block_size": 32},
        scheduler=settings,
    )
    requests = [Request(**each | {"prompt": tuple(map(tuple, each["prompt"]))}) for each in given_requests]
    found, events = by_turns(settings, requests)
    assert found == [
        (s.step, s.used_blocks, s.running, s.waiting, s.preempted, s.scheduled_tokens, s.used_after_update)
        for s in report.steps
    ]
    assert events.hits == report.hits
    assert (events.tally.evicted_blocks, events.tally.finished) == (
        report.totals.evicted_cached_blocks,
        report.totals.finished,
    )


@given(SEEDED)
def test_what_is_counted_is_what_the_steps_say(random: Random):
    settings, requests = random_settings(random), random_requests(random)
    asked = {"engine": "vllm@0.32.0", "engine_settings": {"gpu": "cpu", "block_size": 32}, "scheduler": settings}
    model = kvcalc.load(LLAMA)
    every, counted = kvcalc.replay(model, requests, **asked), kvcalc.replay(model, requests, **asked, every_step=False)
    assert counted.steps == ()
    assert counted._replace(steps=every.steps) == every
    assert sum(every.used.values()) == len(every.steps) == every.totals.steps
    assert sum(every.waits.values()) == every.totals.requests
    assert max(step.used_blocks for step in every.steps) == every.totals.peak_used <= every.num_blocks


@given(SEEDED)
def test_every_block_comes_back(random: Random):
    settings, requests = random_settings(random), random_requests(random)
    report = kvcalc.replay(
        kvcalc.load(LLAMA), requests, engine="vllm@0.32.0", engine_settings={"gpu": "cpu"}, scheduler=settings
    )
    assert not report.totals.stalled
    assert report.steps[-1].used_after_update == 0
    assert report.totals.finished == report.totals.requests == len(requests)


def test_a_larger_pool_preempts_no_more_and_a_pool_for_all_never():
    row = rows()["t085"]
    few, many = replayed(row), replayed(row, num_gpu_blocks=5000)
    assert few.totals.preemptions > 0 == many.totals.preemptions
    assert many.totals.waiting_steps <= few.totals.waiting_steps


def test_blocks_without_contents_are_given_out_first_and_then_the_oldest():
    pool = Pool(4)
    blocks = pool.take(4)
    for key, block in enumerate(blocks[:3]):
        pool.register(block, key, 16)
    pool.release(reversed(blocks))
    assert pool.free == 4
    (blank,) = pool.take(1)
    assert (blank.keys, pool.evicted) == ((), 0)
    assert pool.take(1) == [blocks[2]]
    assert pool.evicted == 1
    assert [pool.find(key) for key in range(3)] == [blocks[0], blocks[1], None]
    pool.hold([blocks[1], NULL])
    assert (pool.free, pool.used) == (1, 3)


def test_of_two_blocks_with_the_same_contents_the_first_is_hit():
    pool = Pool(4)
    first, second = pool.take(2)
    pool.register(first, 7, 16)
    pool.register(second, 7, 16)
    assert pool.find(7) is first
    pool.forget(first)
    assert pool.find(7) is second
    runs = RunPool(4)
    runs.take(2)
    tables: tuple[list[int], list[int]] = ([], [])
    for table in tables:
        runs.register((7,), table)
    assert runs.find(7) == tables[0][0]
    runs.release(tables[0], 0, 0)
    runs.take(3)
    assert (runs.find(7), runs.evicted) == (tables[1][0], 1)


def test_equal_prefixes_have_one_number_and_others_never():
    paths = Paths()
    first = Tokens(paths, [("a", 40), ("b", 30)], "out", 10)
    longer = Tokens(paths, [("a", 40), ("b", 30), ("out", 25)], "next", 10)
    other = Tokens(paths, [("a", 39), ("b", 31)], "out", 10)
    assert [first.prefix(n) for n in range(1, 10)] == [longer.prefix(n) for n in range(1, 10)]
    assert [first.prefix(n) == other.prefix(n) for n in range(1, 8)] == [True] * 3 + [False] * 4
    assert Tokens(paths, [(None, 40)], None, 10).prefix(1) != Tokens(paths, [(None, 40)], None, 10).prefix(1)


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"engine": "sglang"}, NotApplicableError, "the scheduler of SGLang is not replayed"),
        ({"engine": "vllm@0.31.0"}, NotApplicableError, "kvcalc replays the scheduler of vLLM 0.32.0, not of 0.31.0"),
        ({"scheduler": {"num_gpu_block": 9}}, UnknownNameError, "no setting of vLLM's scheduler is called"),
        ({"scheduler": {}}, InvalidValueError, "pool size unknown"),
        ({"scheduler": {"num_gpu_blocks": 0}}, InvalidValueError, "num_gpu_blocks must be"),
        (
            {"scheduler": {"num_gpu_blocks": 99, "policy": "lifo"}},
            InvalidValueError,
            "policy must be one of fcfs, priority",
        ),
        ({"scheduler": {"num_gpu_blocks": 99, "watermark": 2}}, InvalidValueError, "watermark must be 0 to 1, not 2"),
        (
            {"scheduler": {"num_gpu_blocks": 99, "spec_method": "mtp"}},
            NotApplicableError,
            "drafts by 'mtp' are not replayed",
        ),
        (
            {"scheduler": {"num_gpu_blocks": 99, "enable_chunked_prefill": 3}},
            InvalidValueError,
            "must be true or false",
        ),
        (
            {"scheduler": {"num_gpu_blocks": 99, "prefix_cache_retention_interval": 32}},
            InvalidValueError,
            "of a model with windows or states",
        ),
        (
            {"scheduler": {"num_gpu_blocks": 99, "num_speculative_tokens": 2, "async_scheduling": True}},
            NotApplicableError,
            "drafts with two batches in flight are not replayed",
        ),
        ({"parallel": kvcalc.Parallel(pp=2)}, NotApplicableError, "does not replay"),
        ({"requests": [{"prompt": [], "output_tokens": 1}]}, InvalidValueError, r"requests\[0\].prompt must be a list"),
        ({"requests": [{"prompt": [["a", 0]], "output_tokens": 1}]}, InvalidValueError, "whole number of at least 1"),
        (
            {"requests": [{"prompt": [["a", 9]], "output_tokens": 1, "x": 1}]},
            InvalidValueError,
            "has an unknown field 'x'",
        ),
        ({"requests": [{"prompt": [["a", 9000]], "output_tokens": 1}]}, InvalidValueError, "max_model_len is 8,192"),
        ({"requests": [3]}, InvalidValueError, "must be a mapping"),
        (
            {
                "requests": [
                    {"prompt": [["a", 9]], "output_tokens": 1, "arrival_step": 4},
                    {"prompt": [["a", 9]], "output_tokens": 1, "arrival_step": 3},
                ]
            },
            InvalidValueError,
            "arrives at step 3, before the previous request",
        ),
    ],
)
def test_what_is_not_replayed_is_refused(changed, kind, words):
    asked: dict[str, Any] = {"requests": [], "engine": "vllm@0.32.0", "scheduler": {"num_gpu_blocks": 999}} | changed
    with pytest.raises(kind, match=words):
        kvcalc.replay(kvcalc.load(LLAMA), **asked)


def test_a_request_that_never_fits_stalls_and_is_told():
    report = kvcalc.replay(
        kvcalc.load(LLAMA),
        [{"prompt": [["a", 600]], "output_segment": "b", "output_tokens": 4}],
        engine="vllm@0.32.0",
        engine_settings={"gpu": "cpu"},
        scheduler={"num_gpu_blocks": 4, "max_model_len": 1024},
    )
    assert report.totals.stalled
    assert report.totals.finished == 0
