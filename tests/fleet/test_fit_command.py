"""`kvcalc fit`: what GPUs hold, against vLLM's own planner and as laws; which term binds; and what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import cache, reduce

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_fit import FAMILIES, servable
from test_vllm import STARTED, models, settings_of

import kvcalc
from kvcalc import fit_gpus
from kvcalc.cache.dtypes import BF16
from kvcalc.engines import Engine
from kvcalc.engines.base.plan import Plan
from kvcalc.engines.vllm.plan import VllmPlan
from kvcalc.fleet.demand import plan_of
from kvcalc.hardware import gpus
from kvcalc.model.checkpoint import Checkpoint
from kvcalc.units import GIB

R1 = {"gpu": "h200", "weights_bytes": 671 * 10**9, "engine": "vllm"}


def fit(name: str, *, tp: int = 1, pp: int = 1, dp: int = 1, dcp: int = 1, **asked):
    return fit_gpus(evenly_shared(name), parallel=kvcalc.Parallel(tp, pp, dp, dcp), **asked)


def evenly_shared(name: str):
    """A model whose tensors are not known, so that ranks share its weights evenly and nothing is estimated."""
    return replace(kvcalc.load(name), checkpoint=Checkpoint())


def planned(model: kvcalc.Model, engine: str = "ideal", settings: dict | None = None, **ranks: int) -> Plan:
    return plan_of(model, Engine.of(engine, settings), BF16, kvcalc.Parallel(**ranks))


# Against vLLM's own planner ----------------------------------------------------------------------------------------


def of_row(row) -> VllmPlan:
    ranks = {name: row["settings"][name] for name in ("tp", "pp", "dcp")}
    return planned(models()[row["config"]], "vllm", settings_of(row), **ranks)


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_every_pool_and_request_has_the_blocks_that_vllm_planned(step):
    """Bytes of a block on each stage, blocks of the pool, and of a request of the longest length: 363 start-ups."""
    assert len(STARTED) == 363
    wrong = []
    for row in STARTED[::step]:
        result, plan = row["result"], of_row(row)
        request = sum(group["blocks_per_request_at_max_len"] for group in result["groups"])
        given_bytes = row["available_bytes"]
        least = given_bytes if isinstance(given_bytes, int) else min(given_bytes)
        found = (list(plan.block_bytes), plan.blocks_in(least), plan.request_blocks(result["max_model_len"]))
        if found != (result["bytes_per_block"], result["num_gpu_blocks"], request):
            wrong.append((row["label"], found))
    assert wrong == []


def test_the_largest_context_of_one_user_is_what_vllm_fits_by_itself():
    """--max-model-len auto, which vLLM finds by halves and this by division."""
    rows = [row for row in STARTED if row["settings"].get("max_model_len_arg") == -1]
    assert len(rows) == 9
    for row in rows:
        given_bytes = row["available_bytes"]
        least = given_bytes if isinstance(given_bytes, int) else min(given_bytes)
        assert of_row(row).max_tokens(1, least) == row["result"]["max_model_len"], row["label"]


def test_users_are_those_that_vllms_blocks_hold_beside_the_null_block():
    report = fit("r1", tp=8, tokens=32_768, **R1)
    # ceil(150,110,994,432 x 0.92) - 671 GB / 8 = 54,227,114,878 bytes; 61 layers x 16 tokens x 1,152 bytes a block
    assert (report.cache_bytes, report.block_bytes, report.num_blocks) == (54_227_114_878, (1_124_352,), 48_229)
    assert report.request_blocks == 2048
    assert report.max_sequences == 48_228 // 2048 == 23
    assert report.log_line.endswith("Maximum concurrency for 32,768 tokens per request: 23.55x")


@settings(max_examples=15)
@given(
    st.sampled_from(FAMILIES),
    st.integers(2**29, 2**36),
    st.sampled_from([1, 2]),
    st.sampled_from(["h100-80gb", "b200"]),
)
def test_division_finds_what_vllm_finds_by_halves(name, available_bytes, pp, gpu):
    model, auto = kvcalc.load(name), {"gpu": gpu, "max_model_len": -1}
    try:
        report = kvcalc.fit(
            model, available_bytes=available_bytes, parallel=kvcalc.Parallel(pp=pp), engine_settings=auto
        )
        longest = report.max_model_len
    except kvcalc.NotApplicableError:
        longest = 0
    assert planned(model, "vllm", auto, pp=pp).max_tokens(1, available_bytes) == longest


# Rows: two compositions whose growth repeats late -------------------------------------------------------------------

LAYERS, HEADS, WIDTH = 32, 8, 128
"""Of Llama 3 8B."""


def kvquant_bytes(heads: int, tokens: int) -> int:
    """K and V in 2 bits, and in 4 bytes each of their outliers, one in a hundred: KVQuant, arXiv 2401.18079."""
    elements = heads * WIDTH * tokens
    return 2 * (elements // 4 + 4 * -(-elements // 100))


def fastgen_held(tokens: int) -> int:
    """31 layers that keep their shares, and the last that still holds the prompt: FastGen, arXiv 2310.01801."""
    kept = [(n, min(tokens, 4 + -(-tokens * tenths // 10))) for n, tenths in ((2, 0), (2, 1), (2, 4), (1, 7), (1, 10))]
    scores = 4 * (2 * kept[2][1] + kept[3][1])  # fp32, of the frequent and the local heads
    layer = sum(kvquant_bytes(n, held) for n, held in kept) + scores
    return max(LAYERS * layer, (LAYERS - 1) * layer + kvquant_bytes(HEADS, tokens))


def l2_norm_held(tokens: int) -> int:
    """The prompt in all layers, and a copy of what one keeps of it: l2compress, which cuts after the last."""
    kept = tokens if tokens < 40 else -(-tokens * 3 // 10)
    return LAYERS * kvquant_bytes(HEADS, tokens) + kvquant_bytes(HEADS, kept)


@pytest.mark.parametrize(
    ("specs", "held"),
    [
        pytest.param(("fastgen:heads_per_policy=2+2+2+1+1", "kvquant"), fastgen_held, marks=pytest.mark.slow),
        (("l2-norm:keep_ratio=0.3,prune_after=40", "kvquant"), l2_norm_held),
    ],
    ids=["fastgen + kvquant", "l2-norm + kvquant"],
)
def test_every_budget_of_200_tokens_holds_what_counting_finds(specs, held):
    asked = planned(reduce(kvcalc.apply_method, specs, kvcalc.load("llama3-8b")))
    needed = {tokens: held(tokens) for tokens in range(1, 260)}
    assert {tokens: asked.needed(tokens, 1) for tokens in needed} == {t: (b,) for t, b in needed.items()}
    for budget in [needed[tokens] + more for tokens in range(1, 209) for more in (-1, 0, 1)]:
        first_too_large = min(tokens for tokens, bytes_ in needed.items() if bytes_ > budget)
        assert asked.max_tokens(1, budget) == first_too_large - 1


def test_what_is_left_to_the_byte_is_used_to_the_byte(cli):
    """31 x 22,784 + 59,392 = 765,696 bytes of 100 tokens; this said 99."""
    methods = "--preset llama3-8b --method fastgen:heads_per_policy=2+2+2+1+1 --method kvquant"
    fit = cli(f"fit {methods} --gpu h100-80gb --weights 0B --reserve 85044711680B --format json")
    report = json.loads(fit.stdout)
    assert (report["cache_bytes"], report["max_tokens"]) == (765_696, 100)
    size = cli(f"size {methods} --tokens 100 --format json")
    assert json.loads(size.stdout)["prefill_peak_bytes"] == fastgen_held(100) == 765_696


# Laws --------------------------------------------------------------------------------------------------------------

BYTES = st.integers(0, 2**40)
USERS = st.integers(1, 300)


def check_inverse(asked, sequences, cache_bytes):
    """What is said to fit fits, and one token more does not; likewise users."""
    longest = asked.max_tokens(sequences, cache_bytes)
    if longest is None:
        assert asked.fits(10**9, sequences, cache_bytes)
        return
    if longest:
        assert asked.fits(longest, sequences, cache_bytes)
        most = asked.max_sequences(longest, cache_bytes)
        assert most is None or most >= sequences
        if most is not None:
            assert not asked.fits(longest, most + 1, cache_bytes)
    if longest != asked.max_model_len:
        assert not asked.fits(longest + 1, sequences, cache_bytes)


@given(servable(), USERS, BYTES)
def test_what_fits_a_byte_for_byte_engine_fits_and_no_more(model, sequences, cache_bytes):
    check_inverse(planned(model), sequences, cache_bytes)


@settings(max_examples=15)
@given(servable(), USERS, BYTES)
def test_what_fits_in_blocks_fits_and_no_more(model, sequences, cache_bytes):
    try:
        asked = planned(model, "vllm")
    except kvcalc.NotApplicableError:  # such as a model whose layers keep nothing
        assume(False)
    check_inverse(asked, sequences, cache_bytes)


@given(st.sampled_from(FAMILIES), st.sampled_from(["vllm", "ideal", "transformers"]), USERS, BYTES)
def test_what_fits_a_shipped_model_fits_and_no_more(name, engine, sequences, cache_bytes):
    try:
        asked = planned(kvcalc.load(name), engine)
    except kvcalc.NotApplicableError:
        assume(False)
    check_inverse(asked, sequences, cache_bytes)


@given(st.sampled_from(["llama-3.1-8b", "gpt-oss-20b", "qwen3-next-80b-a3b"]), st.integers(1, 16), BYTES)
def test_what_fits_a_shared_context_fits_and_no_more(name, sequences, cache_bytes):
    asked = planned(kvcalc.load(name), "llama_cpp")
    longest = asked.max_tokens(sequences, cache_bytes)
    assert longest == 0 or asked.fits(longest, sequences, cache_bytes)
    assert not asked.fits(longest + 1, sequences, cache_bytes)


@settings(max_examples=10)
@given(st.sampled_from(["snapkv", "snapkv:prompt_tokens=5000", "pyramidkv", "ada-kv", "streaming-llm"]), USERS, BYTES)
def test_what_fits_under_a_method_fits_and_no_more(method, sequences, cache_bytes):
    check_inverse(planned(kvcalc.apply_method(kvcalc.load("llama-3.1-8b"), method), tp=2), sequences, cache_bytes)


def test_a_prompt_that_is_cut_is_held_whole_while_it_is_read_on_each_rank():
    """README: 1,862,270,976 bytes at most for llama-3-70b, of which each of 8 ranks that share heads has an eighth."""
    model = kvcalc.apply_method(kvcalc.load("llama3-70b"), "snapkv:max_capacity_prompt=4096")
    report = fit_gpus(
        model, gpu="h200", weights_bytes=141 * 10**9, tokens=131_072, sequences=3, parallel=kvcalc.Parallel(tp=8)
    )
    assert report.needed_bytes == (3 * 1_862_270_976 // 8,)
    kept = 4096 * 4096  # of a layer: 2 x 8 heads x 128 x 2 bytes each
    assert report.max_tokens == (report.cache_bytes * 8 // 3 - 79 * kept) // 4096


@given(st.integers(2**31, 2**36), st.integers(1, 64), st.sampled_from([("sglang", 1), ("tensorrt_llm", 32)]))
def test_what_fits_pools_fits_and_no_more(cache_bytes, sequences, engine_and_page):
    engine, page = engine_and_page
    asked = planned(kvcalc.load("llama-3.1-8b"), engine)
    tokens = cache_bytes // (131_072 * page) * page  # 32 layers x 2 x 8 heads x 128 x 2 bytes
    longest = asked.max_tokens(sequences, cache_bytes)
    assert longest == tokens // page // sequences * page
    if longest:
        assert asked.fits(longest, sequences, cache_bytes)
    assert not asked.fits(longest + 1, sequences, cache_bytes)


@pytest.mark.parametrize("engine", ["ideal", "vllm"])
@pytest.mark.parametrize(("name", "weights_gb"), [("r1", 671), ("llama-3.3-70b", 141), ("gpt-oss-120b", 65)])
def test_more_gpus_never_hold_fewer_tokens(name, weights_gb, engine):
    """A share of the weights leaves each GPU more, and replicas hold as many users each."""
    model = kvcalc.load(name)
    on, left = {}, {tp: 138 * 10**9 - weights_gb * 10**9 // tp for tp in (1, 2, 4, 8)}
    for tp in left:
        on[tp] = planned(model, engine, {"gpu": "h200"} if engine == "vllm" else None, tp=tp)
    for sequences in (1, 3, 16, 50):
        longest = [asked.max_tokens(sequences, left[tp]) for tp, asked in on.items()]
        assert longest == sorted(longest)
    asked = {"gpu": "h200", "weights_bytes": weights_gb * 10**9, "engine": engine, "tokens": 4096}
    one, three = (fit(name, tp=8, dp=dp, sequences=9, **asked).max_sequences for dp in (1, 3))
    assert three == 3 * one


@cache
def layout(name: str, engine: str, tp: int, pp: int):
    """Demand on these ranks; None where the engine refuses them."""
    try:
        return planned(kvcalc.load(name), engine, {"gpu": "h200"} if engine == "vllm" else None, tp=tp, pp=pp)
    except kvcalc.KvcalcError:
        return None


@settings(max_examples=20)
@given(
    st.sampled_from(["llama-3.3-70b", "gpt-oss-120b", "qwen3-235b-a22b"]),
    st.sampled_from(["ideal", "vllm"]),
    st.integers(10, 600),
    st.integers(1, 64),
)
def test_the_fewest_gpus_hold_what_is_asked_and_one_fewer_does_not(name, engine, weights_gb, sequences):
    """Every layout of so many GPUs, tried one by one and without a bound."""
    asked = {"gpu": "h200", "weights_bytes": weights_gb * 10**9, "engine": engine, "sequences": sequences}
    report = fit(name, tokens=16_384, **asked)
    assume(report.fewest is not None and report.fewest <= 12)
    taken_bytes = {"ideal": 150_110_994_432, "vllm": 138_102_114_878}[engine]

    def holds(number: int) -> bool:
        return any(replicas_hold(number // dp, dp) for dp in range(1, number + 1) if number % dp == 0)

    def replicas_hold(ranks: int, dp: int) -> bool:
        left_bytes, users = taken_bytes - -(-weights_gb * 10**9 // ranks), -(-sequences // dp)
        layouts = (layout(name, engine, tp, ranks // tp) for tp in range(1, ranks + 1) if ranks % tp == 0)
        return any(held is not None and held.fits(16_384, users, left_bytes) for held in layouts)

    assert holds(report.fewest)
    assert not any(holds(number) for number in range(1, report.fewest))


def test_replicas_are_tried_and_usual_layouts_come_first():
    """64 users of R1 at 32K: 27 fit beside the weights on 8 H200s; 61 layers divide among no stages but 61."""
    report = fit("r1", tp=8, gpu="h200", weights_bytes=688_586_727_753, tokens=32_768, sequences=64)
    assert report.max_sequences == 64_037_653_462 // (32_768 * 70_272) == 27
    assert (report.fewest, report.fewest_layout) == (report.usual_gpus, report.usual_layout) == (24, "TP 8, DP 3")
    planned_stages = fit("r1", tp=8, tokens=32_768, sequences=64, **R1)
    assert (planned_stages.usual_gpus, planned_stages.usual_layout) == (16, "TP 8, PP 2")
    assert planned_stages.fewest < 16


def test_the_headline_is_no_longer_than_the_models_own_context(cli):
    outcome = cli("fit -p gpt-oss-20b --gpu h100 --weights 13GB -t 32K", columns=120)
    assert "  max context  131,072 tokens (1 user), the model's context; memory holds 2,931,409\n" in outcome.stdout
    assert "  limited by   the model's context, not memory\n" in outcome.stdout
    report = json.loads(cli("fit -p gpt-oss-20b --gpu h100 --weights 13GB -t 32K --format json").stdout)
    assert (report["max_context"], report["max_tokens"]) == (131_072, 2_931_409)


def test_users_who_share_one_context_are_said_to(cli):
    outcome = cli("fit -p llama3-8b --gpu h100 --weights 16GB -e llama_cpp -t 32K -b 157", columns=120)
    assert "  asked        157 users sharing 32,768 tokens (208 each): fits\n" in outcome.stdout
    assert "  max users    256 sharing 32,768 tokens\n" in outcome.stdout
    swa = cli("fit -p gpt-oss-20b --gpu h100 --weights 13GB -e llama_cpp -t 32K", columns=120)
    assert "  - defaults of the library; with defaults of the server memory holds " in swa.stdout


# Memory and what binds ---------------------------------------------------------------------------------------------


def test_without_a_planner_it_is_memory_less_weights_less_reserve():
    report = fit("r1", tp=8, gpu="h200", weights_bytes=671 * 10**9, reserve_bytes=2 * GIB, tokens=1000, sequences=3)
    assert report.cache_bytes == 150_110_994_432 - 671 * 10**9 // 8 - 2 * GIB
    assert report.max_tokens == report.cache_bytes // 3 // 70_272
    assert report.max_sequences == report.cache_bytes // (1000 * 70_272)
    assert report.needed_bytes == (3 * 1000 * 70_272,)
    assert report.binds == "cache"


def test_a_share_of_the_memory_is_multiplied_as_it_was_written():
    report = fit("r1", gpu="h200", weights_bytes=0, utilization=0.9)
    assert report.taken_bytes == 150_110_994_432 * 9 // 10


def test_the_engines_own_share_may_be_given_by_either_name():
    by_name = fit("r1", tp=8, engine_settings={"gpu_memory_utilization": 0.85}, **R1)
    assert fit("r1", tp=8, utilization=0.85, **R1).cache_bytes == by_name.cache_bytes


def test_weights_that_leave_nothing_bind():
    report = fit("r1", tp=8, gpu="h100", weights_bytes=671 * 10**9, engine="vllm", tokens=8192)
    assert (report.binds, report.fits, report.max_tokens, report.max_sequences) == ("weights", False, 0, 0)
    assert (report.fewest, report.fewest_layout, report.fewest_by_tp) == (9, "PP 9", 16)


def test_a_reserve_that_leaves_nothing_binds():
    report = fit("llama-3.1-8b", gpu="h100", weights_bytes=16 * 10**9, reserve_bytes=70 * 10**9, tokens=1)
    assert (report.binds, report.fits) == ("reserve", False)


def test_the_stage_that_binds_is_named():
    """61 layers over 2 stages are 31 and 30 in vLLM."""
    report = fit("r1", tp=8, pp=2, sequences=200, **R1)
    assert report.block_bytes == (571_392, 552_960)
    assert report.binds == "cache of stage 0"


def test_the_models_own_context_binds_where_memory_does_not():
    report = fit("r1", tp=8, **R1)
    assert (report.max_tokens, report.binds) == (163_840, "model")


def test_ranks_that_share_tokens_hold_more_of_them():
    one, eight = (fit("r1", tp=8, dcp=dcp, tokens=131_072, **R1) for dcp in (1, 8))
    assert (one.request_blocks, eight.request_blocks) == (8192, 1024)
    assert (one.max_sequences, eight.max_sequences) == (48_228 // 8192, 48_228 // 1024)


def test_a_number_of_blocks_may_be_given_whatever_the_memory():
    report = fit("r1", tp=8, tokens=16_384, engine_settings={"num_gpu_blocks_override": 2049}, **R1)
    assert (report.num_blocks, report.max_sequences) == (2049, 2)


def test_the_caches_bytes_may_be_given_in_place_of_a_share():
    report = fit("r1", tp=8, tokens=16_384, engine_settings={"kv_cache_memory_bytes": 1_124_352 * 1025}, **R1)
    assert (report.cache_bytes, report.num_blocks, report.max_sequences) == (1_124_352 * 1025, 1025, 1)


def test_a_context_of_llama_cpp_is_asked_as_a_whole():
    report = fit("llama-3-8b", gpu="l4", weights_bytes=16 * 10**9, engine="llama_cpp", tokens=8192, sequences=4)
    assert report.needed_bytes == (8192 * 131_072,)
    assert (report.fits, report.fewest) == (True, 1)


@pytest.mark.parametrize("gpu", gpus(), ids=lambda gpu: gpu.name)
def test_every_gpu_by_its_name_and_aliases(gpu):
    for name in (gpu.name, *gpu.aliases):
        spelled = fit("llama-3.1-8b", gpu=name.upper(), weights_bytes=0)
        assert (spelled.gpu, spelled.gpu_bytes, spelled.gpu_source) == (gpu.name, gpu.memory_bytes, gpu.source)


def test_the_drivers_own_names_are_gpus():
    own = {"NVIDIA H100 80GB HBM3": "h100-80gb", "NVIDIA A100-SXM4-80GB": "a100-80gb", "Tesla T4": "t4"}
    assert {name: fit("llama-3.1-8b", gpu=name, weights_bytes=0).gpu for name in own} == own


# What is refused ---------------------------------------------------------------------------------------------------

ASKED = "fit --preset r1 --gpu h200 --weights 671GB"
WRONG = {
    "no weights": (
        "fit --preset yoco-3b --gpu h200",
        "--weights: weights size unknown\nhelp: write 671GB, 625GiB or `70B x 4.5bit`, or the path of",
    ),
    "a GPU": (ASKED.replace("h200", "h300"), "--gpu: no GPU is called 'h300'\nhelp: did you mean"),
    "GPUs of another layout": (
        f"{ASKED} --gpus 8 --tp 4",
        "--gpus: 8 GPUs, but tp 4 x pp 1 x dp 1 needs 4\nhelp: say how they share the model",
    ),
    "no number of GPUs": (
        f"{ASKED} --gpus many",
        "--gpus: expected a number of GPUs, not 'many'\nhelp: write 8, 4,8 or 1-16",
    ),
    "several contexts": (
        f"{ASKED} -t 1K,2K",
        "--tokens: expected a single context\nhelp: pass one, for example --tokens 32K",
    ),
    "a share": (f"{ASKED} --utilization 90", "--utilization: utilization must be above 0 and at most 1, not 90.0"),
    "no share": (f"{ASKED} --utilization half", "--utilization: utilization must be a number, not 'half'"),
    "a share said twice": (
        f"{ASKED} --engine vllm --engine-set gpu_memory_utilization=0.9 --utilization 0.9",
        "--engine-set: utilization and gpu_memory_utilization are the same setting, and both are given\nhelp: pass only one",
    ),
    "another GPU in a setting": (
        f"{ASKED} --engine vllm --engine-set gpu=h100",
        "--engine-set: the engine setting gpu (h100) differs from the requested GPU (h200)\nhelp: remove the setting",
    ),
    "a setting": (
        f"{ASKED} --engine vllm --engine-set block=1",
        "--engine-set: no setting of the engine vllm is called",
    ),
    "ranks of one process": (
        f"{ASKED} --engine llama_cpp --tp 8",
        "engine llama_cpp holds one context in one process, so there are no ranks\nhelp: remove tp, pp and dcp",
    ),
    "a context that vLLM does not take": (
        f"{ASKED} --engine vllm --tp 8 -t 200K",
        "a request of 204,800 tokens exceeds max_model_len (163,840)\nhelp: use at most 163,840 tokens, or raise max_model_len",
    ),
    "a format that a setting already decides": (
        f"{ASKED} --engine tensorrt_llm --dtype fp8 --engine-set dtype=nvfp4",
        "the format of tensorrt_llm's pools is a setting of the engine, which kv_dtype (fp8) does not change\nhelp: set the engine's",
    ),
    "a share of nothing": (
        f"{ASKED.replace('h200', 't4')} --engine sglang --engine-set chunked_prefill_size=16384",
        "SGLang would reserve all memory of t4 for prefill chunks and CUDA graphs\nhelp: set a share, --engine-set mem",
    ),
    "ranks of tokens": (
        f"{ASKED} --tp 8 --dcp 8",
        "how dcp (8) ranks divide tokens depends on an engine's blocks\nhelp:",
    ),
}


@pytest.mark.parametrize(("line", "message"), WRONG.values(), ids=list(WRONG))
def test_what_cannot_be_asked_is_explained(cli, line, message):
    outcome = cli(line)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(message)
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"weights_bytes": 1.5}, "weights_bytes must be a number of bytes, not 1.5"),
        ({"weights_bytes": 1, "reserve_bytes": -1}, "reserve_bytes must be a number of bytes, not -1"),
        ({"weights_bytes": 1, "num_gpus": 2}, "2 GPUs, but tp 1 x pp 1 x dp 1 needs 1"),
    ],
)
def test_bad_values_of_the_api_are_named(asked, message):
    with pytest.raises(kvcalc.InvalidValueError) as error:
        fit_gpus(kvcalc.load("r1"), gpu="h200", **asked)
    assert error.value.what == message


def test_what_does_not_fit_ends_with_1_and_what_does_with_0(cli):
    assert cli(f"{ASKED} --tp 8 -t 100K -b 5").code == 0
    assert cli(f"{ASKED} --tp 8 -t 100K -b 50").code == 1


def test_json_has_the_exact_numbers_and_the_engines_own(cli):
    outcome = cli(f"{ASKED} --reserve 0 --engine vllm --gpus 8 --tp 8 -t 32K --format json")
    data = json.loads(outcome.stdout)
    block = 61 * 16 * 576 * 2  # layers, tokens, latent and rope, bytes
    assert data["cache_bytes"] == 138_102_114_878 - data["weights_bytes"]
    assert data["num_blocks"] == data["cache_bytes"] // block
    assert data["max_sequences"] == (data["num_blocks"] - 1) // (32 * 1024 // 16)
    assert data["planned"]["log_line"].startswith(f"GPU KV cache size: {data['num_blocks'] * 16:,} tokens")


def test_csv_has_question_answers_and_terms_of_memory_in_one_row(cli):
    line = f"{ASKED} --engine vllm --gpus 8 --tp 8 -t 32K --format"
    data = json.loads(cli(f"{line} json").stdout)
    (row,) = csv.DictReader(cli(f"{line} csv").stdout.splitlines())
    for name in ("max_tokens", "max_sequences", "num_blocks", "blocks_per_request", "fewest_gpus", "binds"):
        assert row[name] == str(data[name]), name
    for name in ("model", "engine", "engine_version", "weights_bytes", "reserve_bytes", "cache_bytes", "taken_bytes"):
        assert row[name] == str(data[name]), name
    assert row["fits"] == str(data["fits"]).lower()
    assert row["needed_bytes"] == str(max(data["needed_bytes"]))
    assert row["log"] == data["planned"]["log_line"]


def test_published_weights_need_not_be_given(cli):
    """688,586,727,753 bytes, of which a layer of multi-token prediction is not loaded; what is given wins."""
    line = "fit --preset r1 --engine vllm --gpu h200 --gpus 8 --tp 8 --format json"
    data = json.loads(cli(line).stdout)
    assert "as published (deepseek-ai/DeepSeek-R1 at 56d4cbbb4d29, safetensors files)" in data["weights_source"]
    layer_61 = 11_505_436_672 * (1 + 4 / 128**2) + 2 * (
        2 * 129_280 * 7168 + 7168 * 14_336
    )  # fp8, and tables in 16 bits
    left = 688_586_727_753 - layer_61
    assert left / 8 < data["weights_bytes"] < 1.02 * left / 8
    given = json.loads(cli(f"{ASKED} --engine vllm --tp 8 --format json").stdout)
    assert 671 * 10**9 / 8 < given["weights_bytes"] < 1.02 * 671 * 10**9 / 8
    assert given["weights_source"] == "given"


def test_settings_of_other_types_are_read(cli):
    line = f"{ASKED} --engine vllm --tp 8 -t 8K --format json --engine-set gpu_memory_utilization=0.9"
    speculative = """--engine-set speculative='{"method": "mtp", "num_speculative_tokens": 1}'"""
    data = json.loads(cli(f"{line} --engine-set enable_prefix_caching=false {speculative}").stdout)
    assert data["block_bytes"] == [62 * 16 * 1152]
    assert data["engine_settings"]["enable_prefix_caching"] is False


def test_settings_mean_the_same_to_every_command(cli):
    """Whole numbers, booleans, text that looks like a number, and JSON, each as the engine's field wants it."""
    ask = "size --preset gpt-oss-20b -t 8K --format json --engine"
    full, cut = (
        json.loads(cli(f"{ask} llama_cpp --engine-set swa_full={value}").stdout) for value in ("true", "false")
    )
    assert (full["engine_settings"]["swa_full"], cut["engine_settings"]["swa_full"]) == (True, False)
    assert full["total_bytes"] == 24 * 2 * 8 * 64 * 2 * 8192 > cut["total_bytes"]
    vllm = json.loads(cli(f"{ask} vllm --engine-set max_model_len=128K --engine-set gpu_memory_utilization=0.5").stdout)
    assert vllm["engine_settings"]["max_model_len"] == 131_072
    assert vllm["engine_settings"]["gpu_memory_utilization"] == 0.5
    compared = cli("compare llama3-8b -t 8K --engine llama_cpp --engine-set swa_full=maybe")
    assert compared.stderr.startswith("--engine-set: swa_full must be on or off, not 'maybe'")
    assert cli("size -p r1 -t 1 --engine vlm --engine-set a=1").stderr.startswith("--engine: no engine is called 'vlm'")


def test_a_partition_of_layers_keeps_its_stages_where_fewer_gpus_are_sought():
    report = fit("r1", tp=8, pp=2, tokens=8192, engine_settings={"pp_layer_partition": [31, 30]}, **R1)
    assert (report.fewest, report.fewest_layout) == (8, "TP 4, PP 2")
