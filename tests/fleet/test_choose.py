"""Layouts to choose from: each is what `fit` answers of it, the best on top."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.cache.dtypes import dtype_named
from kvcalc.fleet.choose import choose, layouts
from kvcalc.fleet.fit import engine_on
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.weights import Weights
from kvcalc.hardware import gpu_named
from kvcalc.io.presets import load_preset
from kvcalc.model.checkpoint import Checkpoint
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.choices import ChoicesReport

WEIGHTS = {"r1": Weights(688_586_727_753, "given"), "llama-3.1-70b": Weights(141_107_497_872, "given")}


def chosen(preset: str, gpu: str, numbers, *, users: int = 1, tokens: int = 32_768, formats=("bf16",)) -> ChoicesReport:
    engine = engine_on(gpu, "vllm", None)
    asked = Question.of(load_preset(preset), tokens=tokens, sequences=users, engine=engine)
    questions = [asked._replace(kv_dtype=dtype_named(name)) for name in formats]
    return choose(
        [OnGpus(each, gpu_named(gpu), WEIGHTS[preset], 0, Fraction(1)) for each in questions], numbers, tokens
    )


@pytest.mark.parametrize(("preset", "gpu"), [("r1", "h200"), ("llama-3.1-70b", "h100")])
def test_each_row_is_what_fit_answers(preset, gpu):
    report = chosen(preset, gpu, [8], users=7)
    assert report.choices
    for choice in report.choices:
        ranks = Parallel(**dict(choice.degrees))
        one = kvcalc.fit_gpus(
            replace(load_preset(preset), checkpoint=Checkpoint()),
            gpu=gpu,
            weights_bytes=WEIGHTS[preset].bytes,
            parallel=ranks,
            engine="vllm",
            tokens=32_768,
            sequences=7,
        )
        assert (choice.max_sequences, choice.max_context, choice.fits) == (one.max_sequences, one.max_context, one.fits)
        assert (choice.weights_bytes, choice.cache_bytes, choice.num_gpus) == (one.weights_bytes, one.cache_bytes, 8)


def test_latents_are_copied_by_tensor_parallelism_and_not_by_dcp():
    copies = {choice.parallel: choice.copies for choice in chosen("r1", "h200", [8]).choices}
    assert copies["TP 8"] == 8
    assert 1 <= copies["TP 8, DCP 8"] < Fraction(101, 100)  # vLLM rounds each rank up to whole blocks
    assert copies["TP 4, PP 2"] == 4
    heads = {choice.parallel: choice.copies for choice in chosen("llama-3.1-70b", "h100", [8]).choices}
    assert heads["TP 8"] == heads["TP 4, DP 2"] == 1


def test_what_holds_the_users_on_fewest_gpus_is_on_top():
    report = chosen("llama-3.1-70b", "h200", range(1, 9), users=50)
    fewest = min(choice.num_gpus for choice in report.choices if choice.fits)
    assert (report.choices[0].fits, report.choices[0].num_gpus) == (True, fewest)
    fitting = [choice.fits for choice in report.choices]
    assert fitting == sorted(fitting, reverse=True)


def test_nothing_that_holds_the_weights_is_said():
    report = chosen("r1", "4090", [1, 2, 4, 8])
    assert (report.choices, report.fits) == ((), False)
    assert "no layout tried holds the weights" in str(report.sheets()[0].lines)


@given(st.integers(1, 64), st.booleans())
def test_a_layout_has_as_many_ranks_as_there_are_gpus_and_comes_once(gpus, experts):
    found = list(layouts(gpus, experts=experts))
    assert {ranks.num_ranks for ranks in found} <= {gpus}
    assert len(found) == len(set(found))
    assert any(ranks.dp == gpus for ranks in found)
    assert all(ranks.ep in (1, ranks.tp * ranks.dp) for ranks in found)


def test_what_the_engine_refuses_in_every_layout_is_said_in_its_words(cli):
    outcome = cli("fit r1 --gpu h200 --gpus 8 -e vllm --tokens 8K --engine-set attention_backend=FLASH_ATTN")
    assert outcome.code == 2
    assert "FLASH_ATTN" in outcome.stderr and "no layout" not in outcome.stdout


def rows_of(cli, line: str) -> dict:
    return json.loads(cli(f"{line} --format json").stdout)


def test_weights_of_other_formats_are_rows_where_they_are_published(cli):
    """Qwen/Qwen3-32B-FP8: 34,322,434,048 bytes by the hub (tests/data/checkpoints.tsv)."""
    report = rows_of(cli, "fit qwen3-32b -e vllm --gpu h200 --gpus 1,2 --tokens 8K")
    single = [row for row in report["choices"] if row["kv_dtype"] == "bf16" and row["num_gpus"] == 1]
    found = {row["weights_format"]: row for row in single}
    assert (found["fp8"]["weights_repository"], found["fp8"]["weights_bytes"]) == ("Qwen/Qwen3-32B-FP8", 34_322_434_048)
    assert found["fp8"]["weights_estimate"] is False
    assert (found["awq"]["weights_repository"], found["awq"]["weights_estimate"]) == ("Qwen/Qwen3-32B-AWQ", True)
    assert found["bf16"]["weights_bytes"] == 65_524_246_528
    assert set(found) == {"bf16", "fp8", "awq"}  # nvfp4, gptq and bnb-4bit take as much as awq


@pytest.mark.parametrize(
    ("engine", "gpu", "formats", "caches"),
    [
        ("vllm", "t4", {"awq", "fp8"}, {"bf16"}),
        ("vllm", "v100-32gb", {"bnb-4bit"}, set()),
        ("llama_cpp", "4090", {"q4_k_m", "q8_0"}, {"bf16", "q8_0"}),
        ("sglang", "h100", {"awq", "fp8"}, {"bf16", "fp8_e4m3"}),
        ("mlx_lm", "m3-ultra-256gb", set(), {"bf16", "int8"}),
        ("tensorrt_llm", "h100", set(), {"bf16", "fp8"}),
        ("lmdeploy", "h100", set(), {"bf16", "int8"}),
    ],
)
def test_an_engine_is_offered_what_it_loads_and_stores(cli, engine, gpu, formats, caches):
    report = rows_of(cli, f"fit qwen3-8b -e {engine} --gpu {gpu} --gpus 1,2 --tokens 4K")
    assert formats <= {row["weights_format"] for row in report["choices"]}
    assert caches <= {row["kv_dtype"] for row in report["choices"]}


def test_weights_that_are_given_or_named_are_the_only_ones(cli):
    line = "fit qwen3-32b -e vllm --gpu h200 --gpus 1,2 --tokens 8K"
    given = rows_of(cli, f"{line} --weights 40GB")["choices"]
    assert {row["weights_format"] for row in given} == {""}
    named = rows_of(cli, f"{line} --weights-dtype bf16,int4")["choices"]
    assert {(row["weights_format"], row["weights_estimate"]) for row in named} == {("bf16", False), ("int4", True)}
    one = rows_of(cli, f"{line} --weights-dtype fp8 --dtype fp8")["choices"]
    assert {(row["weights_format"], row["kv_dtype"]) for row in one} == {("fp8", "fp8")}


def test_a_choice_that_rests_on_an_estimate_says_so_in_every_format(cli):
    line = "fit llama-3.1-8b -e vllm --gpu h100 --gpus 1,2 --tokens 32K"
    report = rows_of(cli, line)
    best = report["choices"][0]
    low, high = best["beside_bytes"]
    assert best["estimate"] and low < high
    assert best["max_sequences"] <= best["max_sequences_at_best"]
    ends = [rows_of(cli, f"{line} --reserve {end}")["choices"] for end in (high, low)]
    for rows, name in zip(ends, ("max_sequences", "max_sequences_at_best"), strict=True):
        (same,) = (
            row for row in rows if all(row[key] == best[key] for key in ("parallel", "kv_dtype", "weights_format"))
        )
        assert same["max_sequences"] == best[name]
    assert " to " in cli(line).stdout
    row = next(csv.DictReader(io.StringIO(cli(f"{line} --format csv").stdout)))
    assert (row["estimate"], int(row["beside_most_bytes"])) == ("true", high)
    assert "reserve is set to 0" in cli(f"{line} --reserve 0", columns=200).stdout


def test_plans_are_shared_among_weights_of_a_model():
    engine = engine_on("h100", "vllm", None)
    on = OnGpus(
        Question.of(load_preset("qwen3-8b"), tokens=8192, engine=engine),
        gpu_named("h100"),
        Weights(16 * 10**9, "given"),
        0,
        Fraction(1),
    )
    other = on.with_weights(Weights(8 * 10**9, "given"))
    assert other.plan(Parallel(tp=2, ep=2)) is on.plan(Parallel(tp=2))


def test_slices_hold_replicas_and_no_ranks_of_one(cli):
    """NVIDIA's guide to MIG: a process enumerates a single slice, and slices have no peer-to-peer."""
    report = rows_of(cli, "fit llama-3.1-8b -e vllm --gpu h100:3g.40gb --gpus 2,4 --tokens 8K")
    assert {row["parallel"] for row in report["choices"]} == {"DP 2", "DP 4"}
    refused = cli("fit llama-3.1-8b -e vllm --gpu h100:3g.40gb --tp 2 --tokens 8K")
    assert (refused.code, "no ranks share a model on MIG slices" in refused.stderr) == (2, True)


def test_unlike_cards_on_one_command_are_refused_with_what_engines_do(cli):
    outcome = cli("fit qwen3-8b -e vllm --gpu 3090+4090 --tp 2 --tokens 8K")
    assert outcome.code == 2
    assert "as much as the smallest holds" in outcome.stderr
    assert "--gpu 3090 --gpus 2" in outcome.stderr


ONE = "fit llama-3.1-8b -e vllm --gpu h100 --tokens 32K"
MORE = "fit llama-3.1-70b -e vllm --gpu h100 --tokens 32K"


def test_without_a_layout_one_gpu_that_holds_it_is_answered_in_full_and_the_best_layouts_follow(cli):
    report = rows_of(cli, ONE)
    assert report["schema"].startswith("fit/")
    layouts = report.pop("layouts")
    assert report == rows_of(cli, f"{ONE} --tp 1") == rows_of(cli, f"{ONE} --gpus 1")
    every = rows_of(cli, f"{ONE} --gpus 1,2,4,8,16")
    assert layouts["choices"][0] == every["choices"][0]
    assert all(row in every["choices"] for row in layouts["choices"])
    shown = cli(ONE).stdout
    assert shown.startswith(cli(f"{ONE} --tp 1").stdout.rstrip())
    assert "layouts and formats for 1 user at 32,768 tokens, best first" in shown


@pytest.mark.parametrize("given", ["", " --users 40"])
def test_without_a_layout_what_one_gpu_does_not_hold_is_answered_by_the_best_layouts(cli, given):
    outcome = cli(f"{MORE}{given}")
    assert (outcome.code, outcome.stdout) == (0, cli(f"{MORE}{given} --gpus 1,2,4,8,16").stdout)
    alone = cli(f"{MORE}{given} --tp 1")
    assert (alone.code, "TOO LARGE" in alone.stdout) == (1, True)


def test_without_a_layout_users_get_as_many_gpus_as_hold_them(cli):
    report = rows_of(cli, f"{MORE} --users 3000")
    best = report["choices"][0]
    assert report["fits"] and best["num_gpus"] > 16 and best["max_sequences"] >= 3000
    fewer = rows_of(cli, f"{MORE} --users 3000 --gpus {best['num_gpus'] - 8}")
    of_the_same = [row for row in fewer["choices"] if row["weights_format"] == best["weights_format"]]
    assert of_the_same and not any(row["fits"] for row in of_the_same)


def test_without_a_layout_nothing_that_holds_it_is_the_answer_of_one_gpu(cli):
    line = "fit llama-3.1-70b -e llama_cpp --gpu t4 --tokens 8K"
    assert (cli(line).code, cli(line).stdout) == (1, cli(f"{line} --tp 1").stdout)
    assert cli("fit llama-3.1-70b -e llama_cpp --gpu t4").code == 1


def test_the_best_layout_is_how_it_is_started(cli):
    assert cli(f"{ONE} --as vllm").stdout == cli(f"{ONE} --tp 1 --as vllm").stdout
    assert cli(f"{MORE} --as vllm").stdout == cli(f"{MORE} --gpus 1,2,4,8,16 --as vllm").stdout


@pytest.mark.parametrize("engine", ["llama_cpp", "lmdeploy"])
def test_experts_are_shared_by_replicas_where_the_engine_does_that(cli, engine):
    report = rows_of(cli, f"fit qwen3-30b-a3b -e {engine} --gpu h100 --gpus 2,4 --tokens 8K")
    assert {row["degrees"]["ep"] for row in report["choices"]} == {1}
    refused = cli(f"fit qwen3-30b-a3b -e {engine} --gpu h100 --dp 2 --ep 2 --tokens 8K")
    assert (refused.code, "share no experts (DP 2, EP 2)" in refused.stderr) == (2, True)
    of_vllm = rows_of(cli, "fit qwen3-30b-a3b -e vllm --gpu h100 --gpus 2,4 --tokens 8K")
    assert {row["degrees"]["ep"] for row in of_vllm["choices"]} == {1, 2, 4}


def test_check_refuses_ranks_of_slices_as_fit_does(cli, tmp_path):
    script = tmp_path / "run.sh"
    script.write_text("vllm serve meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 2\n")
    refused = cli(f"check {script} --gpu h100:3g.40gb")
    assert refused.code == 2
    assert "--gpu: no ranks share a model on MIG slices (TP 2 on h100-80gb-mig-3g.40gb)" in refused.stderr
    script.write_text("vllm serve meta-llama/Llama-3.1-8B-Instruct --data-parallel-size 2 --max-model-len 8K\n")
    assert cli(f"check {script} --gpu h100:3g.40gb").code == 0


def test_users_who_share_a_context_are_said_to(cli):
    """llama-server and Ollama divide the tokens of one context among their slots."""
    said = cli("fit phi-4 --gpu l4 -e ollama -t 16K", columns=120).stdout
    assert "1 user sharing 16,384 tokens: fits" in said
    assert "users of ollama share one context: max users divide its tokens among them" in said
    assert "share one context" not in cli("fit phi-4 --gpu l4 -e vllm -t 16K", columns=120).stdout
