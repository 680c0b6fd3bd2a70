"""One question, one answer, by whichever door it comes: the library, the command line, a plan, a fit."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from asked_at_random import SETTINGS, Asked, questions, taken_by
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strict_readers import run

import kvcalc
from kvcalc.engines import ENGINES, Engine

EACH = pytest.mark.parametrize("engine", ENGINES.names())
SLOW = {"suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
GPU, WEIGHTS = "h200", "90GB"


def answered(*words: str):
    """What a command printed as JSON, or the words of its refusal without the place."""
    done = run(*words)
    if done.code == 2:
        return done.err.splitlines()[0]
    return json.loads(done.out)


def same_refusal(printed: object, error: kvcalc.KvcalcError) -> bool:
    """Whether a door refused with the same words, whatever it calls the place."""
    return isinstance(printed, str) and str(error).rpartition(": ")[2][:60] in printed


@EACH
@settings(max_examples=40, **SLOW)
@given(data=st.data())
def test_the_command_line_sizes_as_the_library_does(engine, data):
    asked = data.draw(questions(engine))
    printed = answered("size", *asked.for_command())
    try:
        report = kvcalc.size(asked.model, **asked.for_api())
    except kvcalc.KvcalcError as error:
        assert same_refusal(printed, error), (printed, error)
    else:
        assert printed["total_bytes"] == report.total_bytes
        assert printed["notes"] == list(report.notes)


@EACH
@settings(max_examples=40, **SLOW)
@given(data=st.data())
def test_a_fit_and_a_plan_and_the_library_agree(tmp_path, engine, data):
    asked = data.draw(questions(engine))
    file = tmp_path / "plan.json"
    asked.settings.pop("gpu", None)  # the GPU is the one that holds the cache
    file.write_text(json.dumps(asked.for_plan(gpu=GPU, weights=WEIGHTS)))
    checked = answered("check", str(file), "-f", "json")
    alone = [] if asked.ranks else ["--tp", "1"]  # without a layout it may choose another
    fitted = answered("fit", "--gpu", GPU, "--weights", WEIGHTS, *alone, *asked.for_command())
    try:
        fit = kvcalc.fit_gpus(asked.model, gpu=GPU, weights_bytes=90 * 10**9, **asked.for_api())
    except kvcalc.KvcalcError as error:
        assert same_refusal(checked, error), (checked, error)
        assert same_refusal(fitted, error), (fitted, error)
        return
    (finding,) = checked["findings"]
    assert (fitted["max_tokens"], fitted["max_sequences"], fitted["fits"]) == (
        fit.max_tokens,
        fit.max_sequences,
        fit.fits,
    )
    assert (finding["max_tokens"], finding["max_sequences"], finding["fits"]) == (
        fit.max_tokens,
        fit.max_sequences,
        fit.fits,
    )
    assert finding["needed_bytes"] in fitted["needed_bytes"]


@EACH
@settings(max_examples=40, **SLOW)
@given(data=st.data())
def test_parts_add_up_and_sequences_multiply_under_settings(engine, data):
    asked = data.draw(questions(engine, layouts=False))
    try:
        report = kvcalc.size(asked.model, **asked.for_api())
        one = kvcalc.size(asked.model, **(asked.for_api() | {"sequences": 1}))
    except kvcalc.KvcalcError:
        return
    assert report.total_bytes == sum(tensor.bytes for group in report.groups for tensor in group.tensors)
    if not report.shares_context:
        assert report.total_bytes == asked.sequences * one.total_bytes


def tracks_fewer_states(asked) -> bool:
    """On pipeline stages SGLang overlaps nothing, and so a request of a hybrid has four states and not five."""
    states = any("state" in tensor.name for group in asked.model.groups for tensor in group.tensors)
    return asked.engine == "sglang" and asked.ranks.get("pp", 1) > 1 and states


@EACH
@settings(max_examples=40, **SLOW)
@given(data=st.data())
def test_ranks_hold_no_less_than_the_whole(engine, data):
    asked = data.draw(questions(engine))
    try:
        report = kvcalc.size(asked.model, **asked.for_api())
        whole = kvcalc.size(asked.model, **asked._replace(ranks={}).for_api())
    except kvcalc.KvcalcError:
        return
    rounded = any("do not divide among" in note for note in report.notes)  # SGLang's pools leave the rest out
    if report.per_rank and not rounded and not tracks_fewer_states(asked):
        assert sum(rank.bytes for rank in report.per_rank) >= whole.total_bytes


@EACH
def test_most_questions_are_answered(engine):
    """Laws about questions that an engine refuses would hold for nothing."""
    from random import Random

    random, ends = Random(1), Counter()
    for _ in range(60):
        names = random.sample(sorted(SETTINGS[engine]), random.choice((0, 1, 2)) if len(SETTINGS[engine]) > 1 else 1)
        chosen = {name: random.choice(SETTINGS[engine][name]) for name in names}
        asked = Asked(random.choice(taken_by(engine)), random.randint(1, 10**5), 2, engine, chosen, {})
        try:
            kvcalc.size(asked.model, **asked.for_api())
            ends["answered"] += 1
        except kvcalc.KvcalcError:
            ends["refused"] += 1
    assert ends["answered"] > ends["refused"], ends


def test_the_settings_are_the_engines_own():
    assert set(ENGINES.names()) == SETTINGS.keys()
    for engine, named in SETTINGS.items():
        assert named.keys() <= set(Engine.of(engine).setting_names())
