"""Laws that hold for every model, as properties over random ones."""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from slot_laws import check
from strategies import PARAMETERS, attentions, dtypes, gqa, models, plain_heads, sequences, tokens, under_methods

import kvcalc
from kvcalc.cache.dtypes import dtype_named
from kvcalc.cache.slots.primitives import Remainder
from kvcalc.engines import ENGINES as ALL_ENGINES
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.fleet.check import Deployment, Limit
from kvcalc.fleet.check import check as check_plans
from kvcalc.io.documents import parse_yaml
from kvcalc.io.presets import dump_preset, parse_preset
from kvcalc.methods import METHODS
from kvcalc.model import LayerGroup, Model
from kvcalc.question import Question
from kvcalc.report.views import Explanation

IDEAL = Engine.of("ideal")


def total(model, n, **question) -> int:
    return kvcalc.size(model, tokens=n, **question).total_bytes


def one_layer(attention) -> Model:
    return Model("one layer", (LayerGroup.of("all", [0], attention),))


@given(models(), tokens, sequences, dtypes)
def test_the_parts_add_up_to_the_whole(model, n, batch, dtype):
    report = kvcalc.size(model, tokens=n, sequences=batch, kv_dtype=dtype)
    assert report.total_bytes == sum(tensor.bytes for group in report.groups for tensor in group.tensors)
    assert report.total_bytes == batch * report.bytes_per_sequence
    assert report.total_bytes == batch * Footprint.of(model, IDEAL, dtype).bytes(n)


@given(models(), tokens, st.integers(1, 50))
def test_bytes_are_linear_in_sequences(model, n, batch):
    assert total(model, n, sequences=batch) == batch * total(model, n)


@given(attentions, tokens, st.integers(1, 200))
def test_bytes_are_linear_in_layers(attention, n, layers):
    deep = Model("deep", (LayerGroup.of("all", range(layers), attention),))
    assert total(deep, n) == layers * total(one_layer(attention), n)


@given(models(), tokens, dtypes)
def test_one_more_token_adds_what_the_report_says(model, n, dtype):
    report = kvcalc.size(model, tokens=n, kv_dtype=dtype)
    assert report.next_token_bytes == total(model, n + 1, kv_dtype=dtype) - report.total_bytes


@given(models(), tokens, tokens, dtypes)
def test_a_longer_sequence_takes_no_less_but_for_tokens_that_wait(model, n, more, dtype):
    """Only what waits to be compressed ever falls; the bound over all shorter lengths never does."""
    footprint = Footprint.of(model, IDEAL, dtype)
    assert footprint.bytes(n) <= footprint.most(n) <= footprint.most(n + more)
    terms = zip(footprint.weights, footprint.operands, strict=True)
    settled = Footprint.summed(term for term in terms if not isinstance(term[1].operands[0], Remainder))
    assert settled.bytes(n) <= settled.bytes(n + more)


@given(models(), tokens, sequences, dtypes)
def test_what_is_fixed_full_and_growing_adds_up(model, n, batch, dtype):
    report = kvcalc.size(model, tokens=n, sequences=batch, kv_dtype=dtype)
    growing, full = report.growing_bytes_per_sequence, report.saturated_bytes_per_sequence
    states = sum(t.bytes for group in report.groups for t in group.tensors if t.saturates_at == 0)
    assert growing * batch + full * batch + states == report.total_bytes
    assert growing == 0 or report.growth[0] > 0


@given(models(), tokens)
def test_the_growth_of_a_period_is_what_a_period_adds(model, n):
    footprint = Footprint.of(model, IDEAL, dtype_named("bf16"))
    report = kvcalc.size(model, tokens=n)
    bytes_, period = report.growth
    ends = [kink for kink in footprint.kinks if kink > n]
    if not ends or ends[0] >= n + period:
        assert footprint.bytes(n + period) - footprint.bytes(n) == bytes_


@given(gqa(), tokens)
def test_mqa_is_at_most_gqa_is_at_most_mha(attention, n):
    model = one_layer(attention)
    mqa, mha = (total(kvcalc.apply_method(model, name), n) for name in ("mqa", "mha"))
    assert mqa <= total(model, n) <= mha


@given(attentions, tokens)
def test_gqa_meets_mqa_at_one_head_and_mha_at_all_of_them(attention, n):
    model = one_layer(attention)
    for spec, same in (("gqa:1", "mqa"), (f"gqa:{attention.num_query_heads}", "mha")):
        assert total(kvcalc.apply_method(model, spec), n) == total(kvcalc.apply_method(model, same), n)


@given(attentions, st.integers(1, 128), tokens)
def test_mla_does_not_depend_on_the_head_count(attention, heads, n):
    model, other = one_layer(attention), one_layer(attention)
    latent = kvcalc.apply_method(model, "mla:512+64")
    group = latent.groups[0]
    other = replace(latent, groups=(LayerGroup.of("all", [0], replace(group.parts[0], num_query_heads=heads)),))
    assert total(latent, n) == total(other, n)


@given(attentions, tokens)
def test_a_window_saturates_and_never_costs_more_than_none(attention, n):
    unlimited = replace(attention, sliding_window=None, attention_chunk_size=None, reference_window=None)
    limit = attention.sliding_window or attention.attention_chunk_size
    bytes_ = total(one_layer(attention), n)
    assert bytes_ == total(one_layer(unlimited), min(n, limit) if limit else n)
    assert bytes_ == total(one_layer(unlimited), n) or n > limit


@given(models(), tokens)
def test_full_windows_are_an_upper_bound_and_both_policies_are_reported(model, n):
    full = total(model, n, engine_settings={"window": "full"})
    report = kvcalc.size(model, tokens=n)
    assert report.total_bytes <= full
    assert dict(report.other_policies) == ({} if full == report.total_bytes else {"every layer full": full})


ENGINES = st.sampled_from(
    [
        {"engine": "ideal"},
        {"engine": "ideal", "engine_settings": {"window": "full"}},
        {"engine": "transformers"},
        {"engine": "transformers", "engine_settings": {"cache": "static"}},
        {"engine": "transformers", "engine_settings": {"transformers_version": "4.57", "num_beams": 3}},
        {"engine": "transformers", "engine_settings": {"prompt_tokens": 100}},
    ]
)


@given(models(), st.lists(tokens, min_size=1, max_size=20), sequences, dtypes, ENGINES)
def test_a_sweep_equals_the_single_sizes(model, counts, batch, dtype, engine):
    footprint = Footprint.of(
        model, Engine.of(**{"name": engine["engine"], "settings": engine.get("engine_settings")}), dtype
    )
    assume(footprint.most(max(counts)) * batch < 2**63)
    swept = kvcalc.sweep(model, tokens=counts, sequences=batch, kv_dtype=dtype, **engine)
    assert swept.dtype == np.int64
    assert swept.tolist() == [total(model, n, sequences=batch, kv_dtype=dtype, **engine) for n in counts]


@given(gqa(), tokens, st.integers(1, 300), st.integers(1, 300))
def test_the_sweep_of_a_quantised_cache_equals_the_single_sizes(attention, n, prompt, residual):
    model = one_layer(
        replace(attention, sliding_window=None, attention_chunk_size=None, reference_window=None, v_head_dim=None)
    )
    settings = {
        "cache": "quantized_quanto",
        "q_group_size": 1,
        "nbits": 4,
        "prompt_tokens": prompt,
        "residual_length": residual,
    }
    settings["q_group_size"] = model.groups[0].tensors[0].elements_per_slot
    question = {"engine": "transformers", "engine_settings": settings}
    assert kvcalc.sweep(model, tokens=[n], **question).tolist() == [total(model, n, **question)]


@given(models(), st.integers(1, 10**4) | tokens, dtypes, st.integers(0, 2**80), ENGINES)
def test_what_fits_is_exact(model, n, dtype, budget, engine):
    footprint = Footprint.of(model, Engine.of(engine["engine"], engine.get("engine_settings")), dtype)
    for budget_bytes in (budget, footprint.bytes(n), footprint.bytes(n) - 1, footprint.bytes(n) + 1):
        most = footprint.max_tokens(budget_bytes)
        if most is None:
            assert footprint.bytes(10**12) <= budget_bytes
        else:
            assert footprint.bytes(most) <= budget_bytes or most == 0
            assert footprint.bytes(most + 1) > budget_bytes or (most == 0 and footprint.bytes(0) > budget_bytes)
            # nothing shorter is too much: looked at one by one as far as that is quick, and where growth changes
            shorter = {*range(max(1, most - 300), most), *range(1, min(most, 300)), *footprint.kinks}
            assert all(footprint.bytes(t) <= budget_bytes for t in shorter if 0 < t < most)
        batch = footprint.max_sequences(n, budget_bytes)
        if batch is not None:
            assert max(0, batch) * footprint.bytes(n) <= max(0, budget_bytes) < (batch + 1) * footprint.bytes(n)


def numbers_of(words: str) -> list[int]:
    """`3`, `[8]` or `[34, 32]` of `3 sequences`, `num_kv_heads 8` or `34 bytes for 32 (q8_0)`."""
    return [int(number.replace(",", "")) for number in re.findall(r"(?<!\w)\d[\d,]*", words.partition(" (")[0])]


EXPLAINED = [
    *((engine, {}, "bf16") for engine in ALL_ENGINES.names()),
    ("ideal", {"window": "full"}, "nvfp4"),
    ("llama_cpp", {}, "q8_0"),
    ("transformers", {"num_beams": 4}, "fp32"),
    ("transformers", {"num_beams": 4, "cache": "static"}, "bf16"),
    ("transformers", {"num_beams": 4, "cache": "quantized_quanto"}, "bf16"),
]


@pytest.mark.parametrize(("engine", "settings", "dtype"), EXPLAINED, ids=str)
def test_the_factors_of_an_explanation_multiply_out_to_the_bytes(engine, settings, dtype):
    """As they are read: layers x sequences x copies x slots x bytes, the bytes per slot, and the sum of all."""
    for preset in ("llama3-8b", "gemma-3-27b"):
        if preset == "gemma-3-27b" and settings.get("cache") == "quantized_quanto":
            continue  # transformers refuses it
        report = kvcalc.size(
            kvcalc.load(preset), tokens=1500, sequences=3, kv_dtype=dtype, engine=engine, engine_settings=settings
        )
        *lines, total = Explanation(report).to_dict()["formulas"]
        products = []
        for tensor_line, slot_line in zip(lines[::3], lines[1::3], strict=True):
            factors, product = tensor_line.split(" = ")[1:]
            each = [numbers_of(factor) for factor in factors.split(" x ")]
            assert all(len(number) == 1 for number in each), tensor_line
            products.append(prod(number for (number,) in each))
            assert numbers_of(product) == products[-1:], tensor_line
            slot_bytes, dims = slot_line.split(" = ")
            *sizes, cost = [numbers_of(factor) for factor in dims.split(" x ")]
            elements, (bytes_, block) = prod(size for (size,) in sizes), (*cost, 1)[:2]
            assert numbers_of(slot_bytes) == each[-1] == [-(-elements // block) * bytes_], slot_line
        _, terms, whole = total.split(" = ")
        assert [n for term in terms.split(" + ") for n in numbers_of(term)] == products
        assert numbers_of(whole) == [sum(products)] == [report.total_bytes]


@given(models())
def test_yaml_to_model_to_yaml(model):
    text = dump_preset(model)
    again = parse_preset(parse_yaml(text, "again.yaml"))
    assert again == model
    assert dump_preset(again) == text


@given(st.integers(1, 10**6), st.integers(0, 10**6), dtypes)
def test_a_format_never_takes_less_for_more_elements(elements, more, dtype):
    assert (
        dtype.bytes_of(elements) <= dtype.bytes_of(elements + more) <= dtype.bytes_of(elements) + dtype.bytes_of(more)
    )


@pytest.mark.parametrize("name", ["bf16", "bfloat16", "BF16", "torch.bfloat16"])
def test_both_spellings_of_a_dtype_are_one(name):
    assert dtype_named(name) is dtype_named("bf16")


@given(tokens)
@example(2**40)
def test_the_numbers_have_no_limit_where_they_are_python_ints(n):
    huge = kvcalc.size(kvcalc.load("r1"), tokens=min(n, 10**12), sequences=10**12)
    assert huge.total_bytes == 70_272 * min(n, 10**12) * 10**12


# ---- under methods

changed = under_methods(plain_heads() | models())


def test_every_method_that_keeps_less_is_composed_with_others():
    keeps_less = {name for name in METHODS.names() if METHODS.module(name).TRAITS.kind != "architecture"}
    assert keeps_less == PARAMETERS.keys()


@settings(max_examples=60)
@given(changed, dtypes)
def test_what_a_model_under_methods_answers_is_what_counting_finds(model, dtype):
    """Kinks, period, most, end, inverse and arrays, of all tensors together and of each."""
    check(Footprint.of(model, IDEAL, dtype), up_to=200)
    for rule in {tensor.slot_rule for group in model.groups for tensor in group.tensors}:
        check(rule, up_to=120)


@settings(max_examples=60)
@given(changed, st.integers(0, 300) | tokens, dtypes, st.integers(-1, 1))
def test_what_fits_under_methods_is_what_a_size_says(model, n, dtype, more):
    """`size(max_tokens(b)) <= b < size(max_tokens(b) + 1)`, at the budget of a size and beside it."""

    def size(tokens):
        return kvcalc.size(model, tokens=tokens, kv_dtype=dtype).total_bytes

    budget = Footprint.of(model, IDEAL, dtype).bytes(n) + more
    most = Footprint.of(model, IDEAL, dtype).max_tokens(budget)
    if most is None:
        assert all(size(tokens) <= budget for tokens in (n or 1, 10**9, 10**9 + 1))
        return
    assert most == 0 or size(most) <= budget
    assert size(most + 1) > budget or (most == 0 and Footprint.of(model, IDEAL, dtype).bytes(0) > budget)
    assert all(size(tokens) <= budget for tokens in {*range(max(1, most - 20), most), *range(1, min(most, 20))})


H100_BYTES = 85_045_477_376
"""presets/gpus.yaml."""


@settings(max_examples=40)
@given(changed, st.integers(1, 300) | st.integers(1, 10**5), st.integers(1, 5), st.integers(-1, 1))
def test_fit_and_check_agree_with_size_under_methods(model, n, users, more):
    """What is left of a GPU holds the contexts that fit says, by the bytes that size says, and not a token more."""

    def held(tokens):
        report = kvcalc.size(model, tokens=tokens, sequences=users)
        return max(report.total_bytes, report.prefill_peak_bytes or 0)

    budget = max(0, held(n) + more)
    assume(budget < H100_BYTES)
    asked = {"gpu": "h100-80gb", "weights_bytes": 0, "reserve_bytes": H100_BYTES - budget, "sequences": users}
    longest = kvcalc.fit_gpus(model, **asked).max_tokens
    deployment = Deployment("d", Question.of(model, tokens=n, sequences=users), Limit.of_budget(budget))
    (finding,) = check_plans([deployment]).findings
    assert finding.max_tokens == longest
    if longest is None:
        assert held(10**9) <= budget
        return
    assert longest == 0 or held(longest) <= budget
    assert held(longest + 1) > budget or longest == 0
    for tokens_ in (n, max(1, longest), longest + 1):
        answer = kvcalc.fit_gpus(model, **asked, tokens=tokens_)
        assert answer.fits == (held(tokens_) <= budget)
        assert answer.needed_bytes == (held(tokens_),)
