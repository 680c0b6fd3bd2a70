"""Laws that hold in every engine, as properties over random questions about the shipped models."""

from __future__ import annotations

from functools import cache

import asked_at_random
import pytest
from asked_at_random import TOKENS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import models

import kvcalc
from kvcalc.engines import ENGINES, Engine
from kvcalc.engines.base.plan import Planner
from kvcalc.fleet.check import Deployment, Limit
from kvcalc.fleet.check import check as check_plans
from kvcalc.question import Question

EACH = pytest.mark.parametrize("engine", ENGINES.names())
PLANNING = [name for name in ENGINES.names() if isinstance(Engine.of(name), Planner)]
STATES_ALONE = {"falcon-mamba-7b", "mamba-2.8b", "mamba-codestral-7b"}
"""No token of theirs takes memory, and SGLang's pool has as many as their context, of which their configs name none."""


@cache
def taken_by(engine) -> list[kvcalc.Model]:
    """Shipped models that the engine has a cache for."""
    return [kvcalc.load(name) for name in asked_at_random.taken_by(engine)]


def can_be_planned(model, engine) -> bool:
    """Whether a plan needs no setting for it: SGLang asks for a length, LMDeploy for a vocabulary."""
    return model.name not in STATES_ALONE and (engine != "lmdeploy" or model.published.vocab_size is not None)


def finding_of(model, limit, **question):
    (finding,) = check_plans([Deployment("d", Question.of(model, **question), limit)]).findings
    return finding


@EACH
@settings(max_examples=60)
@given(data=st.data(), tokens=TOKENS, sequences=st.integers(1, 5))
def test_the_parts_add_up_and_sequences_multiply(engine, data, tokens, sequences):
    model = data.draw(st.sampled_from(taken_by(engine)))
    report = kvcalc.size(model, tokens=tokens, sequences=sequences, engine=engine)
    assert report.total_bytes == sum(tensor.bytes for group in report.groups for tensor in group.tensors)
    assert report.total_bytes == sum(group.bytes for group in report.groups)
    if not report.shares_context:
        assert report.total_bytes == sequences * kvcalc.size(model, tokens=tokens, engine=engine).total_bytes


@EACH
@settings(max_examples=60)
@given(data=st.data(), tokens=TOKENS, more=st.integers(1, 1000))
def test_more_tokens_take_no_less_and_what_the_next_adds_is_told(engine, data, tokens, more):
    model = data.draw(st.sampled_from(taken_by(engine)))
    first, next_ = (kvcalc.size(model, tokens=n, engine=engine) for n in (tokens, tokens + 1))
    whole_periods = more * first.growth[1]  # inside of one, tokens that wait to be compressed go
    assert first.total_bytes <= kvcalc.size(model, tokens=tokens + whole_periods, engine=engine).total_bytes
    assert next_.total_bytes - first.total_bytes == first.next_token_bytes


@pytest.mark.parametrize("engine", [name for name in ENGINES.names() if name not in PLANNING])
@settings(max_examples=40)
@given(data=st.data(), tokens=TOKENS, sequences=st.integers(1, 3), more=st.integers(-1, 1))
def test_all_doors_answer_alike(engine, data, tokens, sequences, more):
    model = data.draw(st.sampled_from(taken_by(engine)))
    question = {"sequences": sequences, "engine": engine}
    total = kvcalc.size(model, tokens=tokens, **question).total_bytes
    assert kvcalc.sweep(model, tokens=[tokens], **question).tolist() == [total]
    budget = max(1, total + more)
    finding = finding_of(model, Limit.of_budget(budget), tokens=tokens, **question)
    assert finding.needed_bytes == total
    assert finding.fits == (total <= budget)
    longest = finding.max_tokens
    if longest:
        assert kvcalc.size(model, tokens=longest, **question).total_bytes <= budget
        assert kvcalc.size(model, tokens=longest + 1, **question).total_bytes > budget
    else:
        assert longest is None or kvcalc.size(model, tokens=1, **question).total_bytes > budget


@pytest.mark.parametrize("engine", PLANNING)
@settings(max_examples=40)
@given(data=st.data(), tokens=TOKENS, sequences=st.integers(1, 3), budget=st.integers(2**30, 2**38))
def test_pools_hold_no_more_than_a_size_of_it_takes(engine, data, tokens, sequences, budget):
    """A pool has more than its requests take (a null block, padding of shorter groups), and never less.

    But for SGLang's pool of windows: it is as large as SGLang makes it, whatever requests would take of it.
    """
    model = data.draw(st.sampled_from([m for m in taken_by(engine) if can_be_planned(m, engine)]))
    tokens = min(tokens, model.max_model_len or tokens)
    question = {"sequences": sequences, "engine": engine}
    finding = finding_of(model, Limit.of_budget(budget), tokens=tokens, **question)
    assert finding.needed_bytes >= kvcalc.size(model, tokens=tokens, **question).total_bytes
    assert not finding.fits or finding.needed_bytes <= budget
    if finding.max_tokens:
        assert finding.fits == (tokens <= finding.max_tokens)
        windows = any({"sliding_window", "attention_chunk_size"} & set(group.facts) for group in model.groups)
        if not (windows and engine == "sglang"):
            assert kvcalc.size(model, tokens=finding.max_tokens, **question).total_bytes <= budget


@pytest.mark.parametrize("name", sorted(STATES_ALONE))
def test_a_pool_of_states_alone_holds_the_tokens_of_one_context(name):
    question = {"tokens": 2000, "sequences": 2, "engine": "sglang"}
    assert not finding_of(kvcalc.load(name), Limit.of_budget(2**38), **question).fits
    assert finding_of(kvcalc.load(name), Limit.of_budget(2**38), **question | {"tokens": 1024}).fits
    told = question | {"engine_settings": {"context_length": 4096}}
    assert finding_of(kvcalc.load(name), Limit.of_budget(2**38), **told).fits
    notes = [kvcalc.fit(kvcalc.load(name), engine="sglang", available_bytes=2**38).notes]
    assert "SGLang uses 2,048 tokens, which all requests share: set context_length" in str(notes)


@EACH
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    model=models(), tokens=st.integers(1, 20_000), sequences=st.integers(1, 5), dtype=st.sampled_from(["bf16", "fp8"])
)
def test_the_laws_hold_for_models_that_nobody_has_built(engine, model, tokens, sequences, dtype):
    """Any composition of kinds, windows and states: whoever takes it adds it up, multiplies it and sweeps it alike."""
    question = {"kv_dtype": dtype, "engine": engine}
    try:
        report = kvcalc.size(model, tokens=tokens, sequences=sequences, **question)
    except kvcalc.KvcalcError as error:
        assert error.help
        return
    assert report.total_bytes == sum(tensor.bytes for group in report.groups for tensor in group.tensors)
    if not report.shares_context:
        assert report.total_bytes == sequences * kvcalc.size(model, tokens=tokens, **question).total_bytes
    next_ = kvcalc.size(model, tokens=tokens + 1, sequences=sequences, **question)
    assert next_.total_bytes - report.total_bytes == report.next_token_bytes * report.sequences
    if engine not in PLANNING:
        swept = kvcalc.sweep(model, tokens=[tokens, tokens + 1], sequences=sequences, **question)
        assert swept.tolist() == [report.total_bytes, next_.total_bytes]
