"""The engine vllm against 17 versions of vLLM: 433 start-ups of 22 models, planned by each version's own code.

Each line of the data is a question to `fit` and what that version planned: blocks, tokens, concurrency, bytes of a block.
An H100 with 40 GiB for the cache, `vllm serve` with its defaults, tp 1 and 8, the model's format and fp8.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kvcalc
from kvcalc.engines.vllm.capacity import Stage, check_fits, request_blocks, stage_block_bytes
from kvcalc.engines.vllm.grouping import groups_of
from kvcalc.engines.vllm.specs import FULL, MLA, SLIDING, STATE, Limits, Spec
from kvcalc.engines.vllm.versions import Packing, VllmRelease

DATA = Path(__file__).parents[1] / "data"
MEMORY_BYTES = 40 * 2**30


def lines(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as text:
        return [json.loads(line) for line in text]


ROWS = lines("vllm_versions")


@cache
def models() -> dict[str, kvcalc.Model]:
    entries = (*lines("vllm_facts"), *lines("vllm_versions_facts"))
    return {entry["name"]: kvcalc.load(entry["config"]) for entry in entries}


def planned(row: dict[str, Any]) -> dict[str, Any]:
    question = {**row["question"], "parallel": kvcalc.Parallel(**row["question"]["parallel"])}
    report = kvcalc.fit(models()[row["model"]], **question)
    return {
        "num_blocks": report.num_blocks,
        "tokens": report.tokens,
        "max_concurrency": round(report.max_concurrency, 6),
        "bytes_per_block": list(report.bytes_per_block),
    }


@pytest.mark.parametrize("version", VllmRelease.KNOWN)
def test_every_start_up_of_a_version_is_planned_as_it_planned_it(version):
    rows = [row for row in ROWS if row["question"]["engine"] == f"vllm@{version}"]
    assert len(rows) >= 9
    for row in rows:
        assert planned(row) == row["want"], row["question"]


def test_every_known_version_has_rows():
    assert len(ROWS) == 433
    assert {row["question"]["engine"] for row in ROWS} == {f"vllm@{version}" for version in VllmRelease.KNOWN}


def fitted(name: str, version: str, **settings: Any) -> kvcalc.FitReport:
    settings = {"max_model_len": 32_768, **settings}
    model = kvcalc.load(name)
    return kvcalc.fit(model, engine=f"vllm@{version}", available_bytes=MEMORY_BYTES, engine_settings=settings)


def test_what_is_set_comes_before_the_version():
    """The defaults of 0.33, set by hand in 0.25, and the other way round."""
    defaults = fitted("qwen3-next-80b-a3b", "0.27.1")
    kept = fitted("qwen3-next-80b-a3b", "0.27.1", enable_prefix_caching=True)
    assert kept.max_concurrency < defaults.max_concurrency
    newer = fitted("qwen3-next-80b-a3b", "0.29.0")
    assert kept.request_blocks == newer.request_blocks
    off = fitted("qwen3-next-80b-a3b", "0.29.0", enable_prefix_caching=False)
    assert off.request_blocks == defaults.request_blocks


@pytest.mark.parametrize("gpu", ["h100-80gb", "b200", "a100-80gb"])
def test_blocks_of_latents_were_forced_up_to_0_17(gpu):
    sizes = {"h100-80gb": 64, "b200": 128, "a100-80gb": 16}
    assert fitted("r1", "0.14.1", gpu=gpu).block_size == sizes[gpu]
    assert fitted("r1", "0.17.1", gpu=gpu).block_size == {**sizes, "b200": 64}[gpu]
    assert fitted("r1", "0.17.1", gpu=gpu, block_size=256).block_size == 256
    assert fitted("r1", "0.17.1", gpu="h100-80gb", block_size=32).block_size == 64


@pytest.mark.parametrize(
    ("version", "settings", "words"),
    [
        ("0.19.1", {"kv_cache_dtype": "nvfp4"}, "vLLM 0.19.1 has no kv_cache_dtype nvfp4"),
        ("0.10.2", {"kv_cache_dtype": "bfloat16"}, "vLLM 0.10.2 has no kv_cache_dtype bfloat16"),
        ("0.13.0", {"max_model_len": -1}, "vLLM 0.13.0 does not accept max_model_len -1"),
    ],
)
def test_what_a_version_does_not_have_is_refused(version, settings, words):
    with pytest.raises(kvcalc.NotApplicableError) as refusal:
        fitted("llama-3.1-8b", version, **settings)
    assert str(refusal.value) == words
    assert refusal.value.help


def test_states_of_every_block_are_refused():
    config = {
        **{"model_type": "jamba", "num_hidden_layers": 8, "hidden_size": 64, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "attn_layer_period": 4, "attn_layer_offset": 2, "mamba_d_state": 16},
        **{"mamba_d_conv": 4, "mamba_expand": 2, "max_position_embeddings": 4096},
    }
    settings = {"enable_prefix_caching": True}
    with pytest.raises(kvcalc.NotApplicableError, match="keeps the states of every block of Mamba layers"):
        kvcalc.fit(kvcalc.load(config), engine="vllm@0.25.1", available_bytes=2**33, engine_settings=settings)
    assert kvcalc.fit(kvcalc.load(config), engine="vllm@0.28", available_bytes=2**33, engine_settings=settings)


def spec(kind: str, state_bytes: int, **other: Any) -> Spec:
    return Spec(kind, 16, state_bytes, (kind, state_bytes), **other)


@pytest.mark.parametrize(
    ("specs", "refused", "taken"),
    [
        ([spec(FULL, 128), spec(SLIDING, 64, window=64)], "0.11.2", "0.12.0"),
        ([spec(FULL, 96), spec(SLIDING, 64, window=64)], "0.23.0", "0.24.0"),
        ([spec(FULL, 96), spec(STATE, 64)], "0.25.1", "0.26.0"),
        ([spec(SLIDING, 96, window=64), spec(MLA, 64)], "0.26.0", "0.27.0"),
    ],
)
def test_pages_of_several_sizes_are_refused_until_a_version_unifies_them(specs, refused, taken):
    groups_of(specs, unifies_windows=False, blocks_outermost=False, release=VllmRelease(taken))
    with pytest.raises(kvcalc.NotApplicableError, match=f"vLLM {refused} cannot unify the page sizes"):
        groups_of(specs, unifies_windows=False, blocks_outermost=False, release=VllmRelease(refused))


@pytest.mark.parametrize(("version", "groups"), [("0.11.2", 3), ("0.12.0", 3), ("0.17.1", 3), ("0.18.0", 2)])
def test_a_few_layers_more_are_padded_to_one_group(version, groups):
    """Ten and thirteen layers: 1.3 times as many."""
    specs = [spec(FULL, 64)] * 10 + [spec(SLIDING, 64, window=64)] * 13
    found = groups_of(specs, unifies_windows=False, blocks_outermost=False, release=VllmRelease(version))
    assert len(found) == groups


@pytest.mark.parametrize("version", ["0.13.0", "0.18.0", "0.28.0", "0.29.0"])
def test_what_one_request_must_fit_is_the_versions(version):
    """Layers of 64 full blocks and windows of 65: pages of layers, blocks of the first group, of all, and a null block."""
    release = VllmRelease(version)
    specs = [spec(FULL, 64)] * 2 + [spec(SLIDING, 64, window=1009)] * 3
    limits = Limits(max_model_len=1024, in_flight_tokens=16, encoder_tokens=16)
    groups = groups_of(specs, unifies_windows=False, blocks_outermost=False, release=release)
    page, held = specs[0].page_bytes, tuple(range(len(specs)))
    block = stage_block_bytes(groups, held, blocks_outermost=False)
    needed = {
        "0.13.0": 2 * 64 * page + 3 * 65 * page,
        "0.18.0": groups[0].blocks(limits) * block,
        "0.28.0": request_blocks(groups, limits) * block,
        "0.29.0": (request_blocks(groups, limits) + 1) * block,
    }[version]
    check_fits(groups, limits, [Stage(held, block, needed)], release)
    with pytest.raises(kvcalc.NotApplicableError, match="To serve at least one request"):
        check_fits(groups, limits, [Stage(held, block, needed - 1)], release)


def test_a_block_of_tuples_has_every_page_as_often_as_the_longest_group_has_any():
    """Two latents of 96 and one of 32 bytes a token beside three windows: two of each size, or two and one."""
    specs = [spec(MLA, 96), spec(MLA, 96), spec(MLA, 32), *[spec("sliding_window_mla", 96, window=64)] * 3]
    groups = groups_of(specs, unifies_windows=False, blocks_outermost=True, release=VllmRelease("0.22.0"))
    held = range(len(specs))
    sizes = {
        packing: stage_block_bytes(groups, held, blocks_outermost=True, packing=packing)
        for packing in (Packing.TUPLES, Packing.BY_PAGE)
    }
    longest = max(len(group.members) for group in groups[1:])
    assert sizes[Packing.TUPLES] == (96 + 32) * 16 * max(2, longest)
    assert sizes[Packing.BY_PAGE] == 96 * 16 * max(2, longest) + 32 * 16
