"""Layouts to choose from: each is what `fit` answers of it, the best on top."""

from __future__ import annotations

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
    on = OnGpus(asked, gpu_named(gpu), WEIGHTS[preset], 0, Fraction(1))
    return choose([on], numbers, tokens, [dtype_named(name) for name in formats])


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
    assert "no layout that was tried holds the weights" in str(report.sheets()[0].lines)


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
