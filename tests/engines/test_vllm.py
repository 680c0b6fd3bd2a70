"""The engine vllm against vLLM 0.33.0's own planner: 379 start-ups of 30 models on 4 GPUs, planned without a GPU.

Each line of the data is a start-up: a model, settings, what vLLM made of them, the memory for the cache, and the blocks,
tokens, concurrency and groups that it planned, or why it refused. Six rows of one model were planned from specs, since
its class is gone; all others from the facts of the model's config.json that decide its cache.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kvcalc
from kvcalc.engines.vllm.capacity import request_blocks, stage_block_bytes
from kvcalc.engines.vllm.grouping import groups_of
from kvcalc.engines.vllm.specs import FULL, STATE, Limits, Spec

DATA = Path(__file__).parents[1] / "data"
NOT_SETTINGS = ("tp", "pp", "dcp", "compute_capability", "gpu_total_memory")
REFUSED_BYTES = 40 * 2**30
"""Memory asked for where vLLM refused before it measured any."""


@cache
def rows() -> list[dict[str, Any]]:
    with gzip.open(DATA / "vllm.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@cache
def models() -> dict[str, kvcalc.Model]:
    with gzip.open(DATA / "vllm_facts.jsonl.gz", "rt") as lines:
        return {entry["name"]: kvcalc.load(entry["config"]) for entry in map(json.loads, lines)}


def settings_of(row: dict[str, Any]) -> dict[str, Any]:
    settings = {name: value for name, value in row["settings"].items() if name not in NOT_SETTINGS}
    settings |= settings.pop("extra") or {}
    return {name.removesuffix("_arg"): value for name, value in settings.items() if value is not None}


def fitted(row: dict[str, Any], **changed: Any) -> kvcalc.FitReport:
    ranks = {name: row["settings"][name] for name in ("tp", "pp", "dcp")}
    return kvcalc.fit(
        models()[row["config"]],
        engine="vllm",
        available_bytes=row.get("available_bytes", REFUSED_BYTES),
        parallel=kvcalc.Parallel(**ranks),
        engine_settings=settings_of(row) | changed,
    )


@cache
def started() -> list[kvcalc.FitReport]:
    return [fitted(row) for row in STARTED]


def planned(result: dict[str, Any]) -> tuple[Any, ...]:
    """What vLLM planned, to the last digit; the groups as its first pipeline stage holds them."""
    groups = [
        (
            g["kind"],
            g["layers"],
            g["block_size"],
            tuple(sorted(g["page_size_bytes"])),
            g["blocks_per_request_at_max_len"],
        )
        for g in result["groups"]
    ]
    head = ("num_gpu_blocks", "reported_tokens", "max_concurrency", "max_model_len")
    return (*(result[name] for name in head), tuple(result["bytes_per_block"]), groups)


def as_planned(report: kvcalc.FitReport, layers_of_first_stage: int) -> tuple[Any, ...]:
    groups = [
        (
            group.kind,
            sum(layer < layers_of_first_stage for layer in group.layers),
            group.block_size,
            group.page_bytes,
            group.blocks_per_request,
        )
        for group in report.groups
    ]
    head = (report.num_blocks, report.tokens, report.max_concurrency, report.max_model_len)
    return (*head, report.bytes_per_block, groups)


def first_stage(row: dict[str, Any]) -> int:
    """Layers of the first pipeline stage; drafts stand on the last, which is the first where there is one."""
    layers = models()[row["config"]].num_layers
    first, *others = row["resolved"]["kv_layers_per_pp_rank"]
    return first if others else layers + 100


STARTED = [row for row in rows() if row["config"] and row.get("result")]
REFUSED = [row for row in rows() if row.get("error")]
FROM_SPECS = [row for row in rows() if row["config"] is None]


def test_every_plan_is_vllms_own():
    """Blocks, tokens, concurrency, length, bytes per block and every group of 363 start-ups."""
    assert len(rows()) == 379
    assert len(STARTED) == 363
    wrong = [
        row
        for row, report in zip(STARTED, started(), strict=True)
        if as_planned(report, first_stage(row)) != planned(row["result"])
    ]
    assert wrong == []


def test_every_refusal_of_vllm_is_a_refusal():
    assert len(REFUSED) == 10
    for row in REFUSED:
        with pytest.raises(kvcalc.NotApplicableError) as refusal:
            fitted(row)
        assert words(refusal.value) in row["error"]
        if row.get("estimated_max_model_len"):
            assert f"{row['needed_gib']} GiB KV cache is needed" in str(refusal.value)
            assert f"the estimated maximum model length is {row['estimated_max_model_len']};" in refusal.value.help


def words(refusal: kvcalc.KvcalcError) -> str:
    """The first words of a refusal, up to what it was told."""
    return str(refusal).split(" for compute capability")[0].split(" on compute capability")[0]


def test_what_vllm_resolved_is_resolved_as_vllm_does():
    for row, report in zip(STARTED, started(), strict=True):
        resolved = row["resolved"]
        chosen = dict(report.resolved)
        for name in (
            "max_num_batched_tokens",
            "max_num_seqs",
            "max_in_flight_tokens",
            "enable_prefix_caching",
            "dtype",
        ):
            assert chosen[name] == resolved[name], (row["model"], row["settings"], name)
        assert report.block_size == resolved["block_size"], (row["model"], row["settings"])


def test_plans_from_specs_are_vllms_own():
    """The planner alone, where vLLM has the model no more: 70 recurrent layers and 10 of full attention."""
    assert len(FROM_SPECS) == 6
    for row in FROM_SPECS:
        assert from_specs(row) == planned(row["result"])


def from_specs(row: dict[str, Any], layers_more: int = 0) -> tuple[Any, ...]:
    specs = [spec_of(written) for written in row["layer_specs"][0] for _ in range(written["layers"] + layers_more)]
    resolved = row["resolved"]
    keeps_states = resolved["mamba_cache_mode"] == "align"
    length = resolved["max_model_len"]
    limits = Limits(
        length, resolved["max_in_flight_tokens"], resolved["max_num_batched_tokens"], keeps_states=keeps_states
    )
    groups = groups_of(specs, unifies_windows=False, blocks_outermost=False)
    block_bytes = stage_block_bytes(groups, range(len(specs)), blocks_outermost=False)
    num_blocks = row["available_bytes"] // block_bytes
    concurrency = num_blocks / request_blocks(groups, limits)
    shown = [
        (g.first.kind, len(g.members), g.first.block_size, (g.first.page_bytes,), g.blocks(limits)) for g in groups
    ]
    return (num_blocks, int(concurrency * length), concurrency, length, (block_bytes,), shown)


def spec_of(written: dict[str, Any]) -> Spec:
    if written["kind"] == STATE:
        return Spec(STATE, written["block_size"], written["state_bytes"], padded_bytes=written["page_size_padded"])
    assert written["kind"] == FULL
    return Spec(FULL, written["block_size"], written["page_size_bytes"] // written["block_size"])


# Layers that no model has -------------------------------------------------------------------------------------------


@cache
def mixtures() -> list[dict[str, Any]]:
    """400 random mixtures of layers, with the groups that vLLM's own planner functions made of them, or None."""
    with gzip.open(DATA / "vllm_groups.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def grouped(row: dict[str, Any], **changed: Any) -> dict[str, Any] | None:
    specs = [
        Spec(**{"block_size": 0, "state_bytes": 0} | hashable(spec))
        for spec, times in row["specs"]
        for _ in range(times)
    ]
    asked = row | changed
    limits = Limits(
        asked["max_model_len"], row["in_flight_tokens"], row["encoder_tokens"], keeps_states=row["keeps_states"]
    )
    outer = asked["blocks_outermost"]
    try:
        groups = groups_of(specs, unifies_windows=asked["unifies_windows"], blocks_outermost=outer)
    except kvcalc.NotApplicableError:
        return None
    return {
        "groups": [list(group.members) for group in groups],
        "bytes_per_block": [stage_block_bytes(groups, range(*held), blocks_outermost=outer) for held in row["stages"]],
        "blocks": [group.blocks(limits) for group in groups],
    }


def hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: hashable(item) for name, item in value.items()}
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def test_any_mixture_of_layers_is_grouped_as_vllm_groups_it():
    assert len(mixtures()) == 400
    assert sum(row["result"] is None for row in mixtures()) == 69
    assert [row for row in mixtures() if grouped(row) != row["result"]] == []


def test_another_layout_or_length_of_a_mixture_is_noticed():
    assert any(grouped(row, blocks_outermost=not row["blocks_outermost"]) != row["result"] for row in mixtures())
    assert any(grouped(row, unifies_windows=not row["unifies_windows"]) != row["result"] for row in mixtures())
    assert any(grouped(row, max_model_len=row["max_model_len"] + 64) != row["result"] for row in mixtures())


# Each way to be wrong is noticed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "noticed_by"),
    [
        ({"gpu": "rtx-3090"}, "google/gemma-3-27b-it"),  # fewer tokens in flight, so fewer blocks for each window
        ({"usage": "llm"}, "google/gemma-3-27b-it"),
        ({"async_scheduling": False}, "openai/gpt-oss-20b"),
        ({"kv_cache_dtype": "fp8"}, "meta-llama/Llama-2-7b-hf"),
        ({"block_size": 32}, "Qwen/Qwen2.5-72B"),  # other blocks, and as many tokens
        ({"max_model_len": 1000}, "openai/gpt-oss-120b"),
        ({"enable_prefix_caching": False}, "LiquidAI/LFM2-1.2B"),
        ({"disable_hybrid_kv_cache_manager": True}, "XiaomiMiMo/MiMo-V2-Flash"),
        ({"mamba_ssm_cache_dtype": "float32"}, "ai21labs/AI21-Jamba-1.5-Mini"),
        ({"speculative": {"method": "mtp"}}, "deepseek-ai/DeepSeek-V3.2"),
        ({"use_v2_model_runner": False}, "google/gemma-3-27b-it pp2"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_noticed(changed, noticed_by):
    name, _, label = noticed_by.partition(" ")
    row = next(r for r in STARTED if r["model"] == name and (r["label"] or "") == label)
    assert as_planned(fitted(row), first_stage(row)) == planned(row["result"])
    assert as_planned(fitted(row, **changed), first_stage(row)) != planned(row["result"])


def test_a_wrong_number_of_layers_is_noticed():
    assert from_specs(FROM_SPECS[0], layers_more=1) != planned(FROM_SPECS[0]["result"])


# Start-up logs that somebody published ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "settings", "tp", "gib", "tokens", "concurrency"),
    [
        # vllm-project/vllm logs of versions whose formula for the model is that of 0.33.0
        ("Qwen__Qwen3.5-27B", {"gpu": "rtx-3090", "kv_cache_dtype": "fp8_e4m3", "max_num_batched_tokens": 8192}, 2, "4.99", 302_921, "2.31"),
        ("Qwen__Qwen3-Next-80B-A3B-Instruct", {"gpu": "a100-80gb", "mamba_ssm_cache_dtype": "float16"}, 1, "16.63", 708_425, "5.40"),
    ],
)  # fmt: skip
def test_published_logs_are_met(config, settings, tp, gib, tokens, concurrency):
    """github.com/mitchross/talos-argocd-proxmox/pull/1995 (vLLM 0.27); a log of 0.27.1. Both at 131,072 tokens."""
    settings = settings | {"max_model_len": 131_072}
    least, most = (int((float(gib) + off) * 2**30) for off in (-0.005, 0.005))  # two decimals were printed
    ends = [
        kvcalc.fit(models()[config], available_bytes=end, parallel=kvcalc.Parallel(tp=tp), engine_settings=settings)
        for end in (least, most)
    ]
    blocks = range(ends[0].num_blocks, ends[1].num_blocks + 1)
    lines = {(r.tokens, f"{r.max_concurrency:.2f}") for r in (ends[0]._replace(num_blocks=n) for n in blocks)}
    assert (tokens, concurrency) in lines
    assert len(blocks) < 10


@pytest.mark.parametrize(
    ("batch", "tokens", "blocks"),
    [
        *[
            (8192, tokens, blocks)
            for tokens, blocks in [(1, 1), (17, 2), (17_407, 1024), (24_576, 1088), (10**6, 1088)]
        ],
        *[(8200, tokens, blocks) for tokens, blocks in [(1023, 64), (17_407, 1025), (24_600, 1090), (10**6, 1090)]],
    ],
)
def test_a_windowed_layer_holds_the_blocks_of_its_tokens_up_to_those_of_its_fullest_batch(batch, tokens, blocks):
    """Two batches in flight and the 1,023 tokens before them; the block more that is planned for is there where batches
    end inside of a block."""
    report = kvcalc.size(
        kvcalc.load("gemma-3-27b"), tokens=tokens, engine="vllm", engine_settings={"max_num_batched_tokens": batch}
    )
    (window,) = report.groups[0].tensors
    assert report.groups[0].name == "sliding"
    assert (window.slots, window.bytes) == (blocks, 52 * blocks * 16 * 16 * 256 * 2)


DRAFTING = {"speculative": {"method": "mtp"}}


@pytest.mark.parametrize("mtp", [False, True])
@pytest.mark.parametrize("parallel", [None, kvcalc.Parallel(tp=2)])
def test_a_size_counts_the_layers_that_guess_tokens(mtp, parallel):
    """Once, however they are asked for: each token takes 62 layers of 576 elements instead of 61."""
    model, plain = kvcalc.load("r1", mtp=mtp), kvcalc.load("r1")

    def total(model, **settings):
        return kvcalc.size(model, tokens=16, engine="vllm", parallel=parallel, **settings).total_bytes

    assert total(model, engine_settings=DRAFTING) == 16 * 62 * 576 * 2
    assert total(plain) == 16 * 61 * 576 * 2
    assert kvcalc.sweep(model, tokens=[16], engine="vllm", engine_settings=DRAFTING).item() == 16 * 62 * 576 * 2
    guessed = {"speculative": {"method": "ngram", "num_speculative_tokens": 2}}
    assert total(plain, engine_settings=guessed) == total(plain)


def test_a_size_with_draft_layers_is_a_block_of_those_that_were_planned():
    rows = [row for row in STARTED if row["settings"].get("speculative")]
    assert {row["model"] for row in rows} == {"deepseek-ai/DeepSeek-R1", "zai-org/GLM-4.5"}
    for row in rows:
        size = kvcalc.size(
            models()[row["config"]],
            tokens=row["resolved"]["block_size"],
            engine="vllm",
            engine_settings=settings_of(row),
            parallel=kvcalc.Parallel(tp=row["settings"]["tp"]),
        )
        assert {rank.bytes for rank in size.per_rank} == set(row["result"]["bytes_per_block"])


@pytest.mark.parametrize("partition", [None, [30, 31], [40, 21]])
@pytest.mark.parametrize("pp", [1, 2])
def test_a_size_of_stages_with_draft_layers_is_a_block_of_those_that_are_planned(pp, partition):
    """The draft layer stands on the last stage, and is none of the layers that stages share."""
    if partition and pp != len(partition):
        return
    asked = {
        "engine": "vllm",
        "engine_settings": DRAFTING | ({"pp_layer_partition": partition} if partition else {}),
        "parallel": kvcalc.Parallel(tp=8, pp=pp),
    }
    model = kvcalc.load("r1")
    size = kvcalc.size(model, tokens=16, **asked)
    fit = kvcalc.fit(
        model,
        available_bytes=40 * 2**30,
        **asked | {"engine_settings": asked["engine_settings"] | {"max_model_len": 4096}},
    )
    assert tuple(rank.bytes for rank in size.per_rank[::8]) == fit.bytes_per_block
    assert [group.name for group in size.per_rank[-1].groups] == ["all", "mtp"]


def test_a_size_of_stages_that_do_not_hold_all_layers_is_refused():
    with pytest.raises(
        kvcalc.InvalidValueError, match=r"pp_layer_partition \(40, 20\) must give 2 stages with 61 layers"
    ):
        kvcalc.size(
            kvcalc.load("r1"),
            tokens=16,
            engine="vllm",
            engine_settings={"pp_layer_partition": [40, 20]},
            parallel=kvcalc.Parallel(pp=2),
        )


def test_layers_that_are_not_quantised_are_sized_apart():
    settings = {"kv_cache_dtype": "turboquant_4bit_nc", "block_size": 16}
    report = kvcalc.size(kvcalc.load("llama-3.1-8b"), tokens=16, engine="vllm", engine_settings=settings)
    assert [(group.name, len(group.layers)) for group in report.groups] == [("all", 28), ("all, unquantised", 4)]
    packed, plain = (group.tensors[0].bytes for group in report.groups)
    assert (packed, plain) == (28 * 32 * 8 * 134, 4 * 32 * 8 * 512)


@pytest.mark.parametrize(("engine", "kv_dtype", "token_bytes"), [("vllm", "bf16", 8192), ("vllm@0.10.2", "fp8", 4096)])
def test_falcon_ignores_the_format_that_is_asked_for_and_says_so(engine, kv_dtype, token_bytes):
    """32 layers of one KV head of 64: in 16 bits since 0.11.1, whatever is asked for."""
    report = kvcalc.size(kvcalc.load("falcon-7b"), tokens=16, engine=engine, kv_dtype="fp8")
    assert (report.kv_dtype, report.total_bytes) == (kv_dtype, 16 * token_bytes)
    assert any("ignore kv_cache_dtype" in note for note in report.notes) == (kv_dtype == "bf16")


STEP5 = {
    **{"model_type": "step5", "num_hidden_layers": 8, "num_attention_heads": 64, "num_attention_groups": 8},
    **{"head_dim": 192, "hidden_size": 4096, "sliding_window": 512, "max_position_embeddings": 8192},
    "layer_types": ["full_attention", *["sliding_attention"] * 3] * 2,
    "sparse_config": {"enabled": True},
}


def planned_by(model: Any, tp: int = 1, **settings: Any) -> kvcalc.FitReport:
    return kvcalc.fit(
        kvcalc.load(model),
        available_bytes=40 * 2**30,
        engine="vllm",
        parallel=kvcalc.Parallel(tp=tp),
        engine_settings={"max_model_len": 8192} | settings,
    )


def test_blocks_of_step_5_have_summaries_beside_its_keys_and_values():
    """Two full layers with a page of 512 bytes beside each, in steps of what 8 tokens take, as vLLM itself plans it."""
    assert planned_by(STEP5).bytes_per_block == (245_760,)


@pytest.mark.parametrize("model", [STEP5, "deepseek-v4.1"], ids=["step5", "deepseek-v4.1"])
def test_older_versions_pack_no_rings(model):
    with pytest.raises(kvcalc.NotApplicableError, match=r"of several sizes only for DeepSeek-V4"):
        kvcalc.fit(kvcalc.load(model), available_bytes=40 * 2**30, engine="vllm@0.26.0")


def test_summaries_of_nothing_are_refused(tmp_path):
    lines = ["name: odd", "num_layers: 2", "attention: region-summary", "summary_dim: 256", "region_tokens: 8"]
    (tmp_path / "odd.yaml").write_text("\n".join([*lines, "source: test", ""]))
    with pytest.raises(
        kvcalc.NotApplicableError, match="summary 1/8 next to keys and values of heads, which all layers"
    ):
        planned_by(tmp_path / "odd.yaml")


def test_kernels_that_are_named_are_taken():
    named = dict(planned_by("llama3-8b", attention_backend="TRITON_ATTN").resolved)
    assert list(named["attention_backends"]) == ["TRITON_ATTN"]


@pytest.mark.parametrize(
    ("model", "tp", "settings", "message"),
    [
        ("deepseek-v4.1", 1, {"gpu": "a100-80gb"}, "need compute capability 9 or 10, but a100-80gb has 8.0"),
        ("deepseek-v4.1", 1, {"kv_cache_dtype": "bfloat16"}, "only support fp8 kv-cache, got bfloat16"),
        ("inkling", 16, {}, "sconv SWA cache supports tp_size <= num_kv_heads (8), got 16"),
        ("llama3-8b", 1, {"attention_backend": "NOPE"}, "attention_backend must be one of FLASH_ATTN"),
        ("llama3-8b", 1, {"attention_backend": "FLASH_ATTN_MLA"}, "No valid attention backend found"),
        (STEP5, 1, {"gpu": "a100-80gb"}, "Step5 DSA requires SM90, SM100 or SM103; got 8.0"),
        (STEP5 | {"head_dim": 128}, 1, {}, "STEP5_DSA reads heads of 192 elements, not of 128"),
    ],
    ids=[
        "old gpu",
        "bf16",
        "more ranks than heads",
        "no kernels",
        "other kernels",
        "old gpu for step 5",
        "step 5 of 128",
    ],
)
def test_what_kernels_cannot_read_is_refused(model, tp, settings, message):
    with pytest.raises(kvcalc.KvcalcError) as caught:
        planned_by(model, tp, **settings)
    assert message in str(caught.value)


def test_entries_of_another_width_than_deepseek_v4_1s_are_refused(tmp_path):
    lines = ["name: wide", "num_layers: 2", "attention: compressed", "num_query_heads: 8", "head_dim: 256"]
    lines += ["sliding_window: 128", "compress_rate: 2", "index_head_dim: 128", "closed_groups: true"]
    (tmp_path / "wide.yaml").write_text("\n".join([*lines, "source: test", ""]))
    with pytest.raises(kvcalc.NotApplicableError, match="hold 512 elements and stand for 1 or 2 tokens, not 256 and 2"):
        planned_by(tmp_path / "wide.yaml")
