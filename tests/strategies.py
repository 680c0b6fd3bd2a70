"""Random models for the laws: every attention kind, alone and as parts of a layer, every slot rule, several groups."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import MISSING, fields, replace

from hypothesis import assume
from hypothesis import strategies as st

import kvcalc
from kvcalc.attention import KINDS, kind_named
from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.gla import GroupedLatentAttention
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.gta import GroupedTiedAttention
from kvcalc.attention.mfa_kr import KeyReuseAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.attention.tpa import TensorProductAttention
from kvcalc.cache.dtypes import DTYPES
from kvcalc.cache.slots.algebra import Expression
from kvcalc.cache.slots.primitives import (
    PROMPT,
    TOKENS,
    Above,
    Anew,
    AtMost,
    Ceil,
    Constant,
    Floor,
    Lower,
    Remainder,
    Switch,
)
from kvcalc.model import Model, group_layers

widths = st.integers(1, 256)
dtypes = st.sampled_from(DTYPES)
tokens = st.integers(1, 10**6)
sequences = st.integers(1, 1000)


@st.composite
def reaches(draw):
    """How far back a layer looks: everything, a window, a chunk, or the prompt and a window."""
    field = draw(st.sampled_from([None, "sliding_window", "attention_chunk_size", "reference_window"]))
    return {field: draw(st.integers(1, 5000))} if field else {}


@st.composite
def gqa(draw):
    kv_heads = draw(st.integers(1, 16))
    return GroupedQueryAttention(
        num_query_heads=kv_heads * draw(st.integers(1, 8)),
        num_kv_heads=kv_heads,
        head_dim=draw(widths),
        v_head_dim=draw(st.none() | widths),
        **draw(reaches()),
    )


@st.composite
def mla(draw):
    heads = {"num_query_heads": draw(st.integers(1, 64)), **draw(reaches())}
    widths_of = {name: draw(widths) for name in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")}
    if draw(st.booleans()):
        return NaiveMultiHeadLatentAttention(**heads, **widths_of)
    return MultiHeadLatentAttention(**heads, **widths_of, kv_lora_rank=draw(st.integers(1, 1024)))


@st.composite
def factored(draw):
    """Kinds that cache less than a key and a value of each KV head: TPA, GTA, GLA, MFA-KR."""
    groups, each = draw(st.integers(1, 16)), draw(st.integers(1, 8))
    heads = {"num_query_heads": groups * each, **draw(reaches())}
    match draw(st.sampled_from(["tpa", "gta", "gla", "mfa-kr"])):
        case "tpa":
            ranks = {name: draw(st.integers(1, 8)) for name in ("k_rank", "v_rank")}
            return TensorProductAttention(**heads, **ranks, head_dim=draw(widths), v_head_dim=draw(st.none() | widths))
        case "gta":
            head_dim, repeats = draw(widths), draw(st.booleans())
            rope = draw(st.integers(1, head_dim))
            return GroupedTiedAttention(
                **heads, num_kv_heads=groups, head_dim=head_dim, qk_rope_head_dim=rope, repeats_rope=repeats
            )
        case "gla":
            names = ("latent_head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
            return GroupedLatentAttention(**heads, num_latent_heads=groups, **{name: draw(widths) for name in names})
    return KeyReuseAttention(**heads, head_dim=draw(widths))


attentions = gqa() | mla() | factored()
OTHER_KINDS = tuple(
    kind for name in KINDS.names() if not issubclass(kind := kind_named(name), TokenCache) and name != "none"
)
"""Kinds that are no plain attention over tokens: states, indexers, cross-attention, compressed attention."""


@st.composite
def other_parts(draw, kinds=OTHER_KINDS):
    """A part of one of `kinds` with any facts; its optional facts there or not."""
    kind = draw(st.sampled_from(kinds))
    facts = {}
    for field in fields(kind):
        needed = field.default is MISSING or field.name == "encoder_tokens"
        if not needed and draw(st.booleans()):
            continue
        if field.name in kind.FLAGS:
            facts[field.name] = draw(st.booleans())
        elif field.name.endswith("_dtype"):
            facts[field.name] = draw(st.sampled_from(["fp32", "bf16"]))
        else:
            facts[field.name] = draw(widths)
    needs_rate = facts.get("index_head_dim") or facts.get("closed_groups")
    if needs_rate and "compress_rate" not in facts and "sliding_window" in facts:
        facts["compress_rate"] = draw(st.integers(1, 128))
    return kind(**facts)


@st.composite
def layers(draw):
    """Parts of a layer whose facts do not share names, so that a preset can hold them."""
    first = draw(attentions | other_parts())
    if not draw(st.booleans()):
        return (first,)
    second = draw(other_parts())
    taken = {field.name for field in fields(first)}
    return (first,) if taken & {field.name for field in fields(second)} else (first, second)


@st.composite
def models(draw):
    """A model of one to three groups, laid out in any order, perhaps with a draft layer."""
    kinds = draw(st.lists(layers(), min_size=1, max_size=3))
    names = [f"kind{i}" for i in range(len(kinds))]
    order = [*names, *draw(st.lists(st.sampled_from(names), max_size=20))]
    parts = dict(zip(names, kinds, strict=True))
    drafts = group_layers(("mtp",) * draw(st.integers(0, 2)), {"mtp": kinds[-1]}, first=len(order))
    return Model("random", group_layers(draw(st.permutations(order)), parts), draft_groups=drafts)


# ---- expressions over t

few = st.integers(1, 7)
starts = st.integers(0, 40)


def expressions() -> st.SearchStrategy[Expression]:
    """Any expression of the primitives, of which small numbers make every case."""
    leaves = st.sampled_from([TOKENS, TOKENS, PROMPT]) | st.builds(Constant, st.integers(0, 20))
    return st.recursive(leaves, larger_expressions, max_leaves=6)


def larger_expressions(inner):
    return st.one_of(
        st.builds(AtMost, inner, starts),
        st.builds(Above, inner, starts),
        st.builds(Lower, inner, inner),
        st.builds(Floor, inner, few, few),
        st.builds(Ceil, inner, few, few),
        st.builds(Remainder, inner, few),
        st.builds(Anew, inner),
        st.builds(Switch, starts, inner, inner),
        st.builds(lambda one, other, weight, plus: one + weight * other + plus, inner, inner, few, starts),
        st.builds(lambda one, other: one - other, inner, inner),
        st.builds(lambda outer, within: outer.over(within), inner, inner),
    )


# ---- methods


@st.composite
def method_specs(draw):
    """A method with parameters that matter to a few hundred tokens, some of which do not go together."""
    name = draw(st.sampled_from(sorted(PARAMETERS)))
    chosen = {field: draw(values) for field, values in PARAMETERS[name].items() if draw(st.booleans())}
    return name + ":" * bool(chosen) + ",".join(f"{field}={value}" for field, value in chosen.items())


ratios = st.sampled_from(["0.1", "0.25", "0.3", "0.5", "0.37", "1"])
counts = st.integers(1, 90)
prompts = st.integers(1, 150)
groups = st.sampled_from([8, 16, 32, 64])
bits = st.sampled_from([2, 4])
PARAMETERS = {
    "streaming-llm": {"start_size": counts, "recent_size": counts},
    "tova": {"cache_size": counts},
    "h2o": {"hh_size": counts, "recent_size": counts},
    "h2o-flexgen": {"hh_ratio": st.sampled_from(["0.1", "0.37", "0.5"]), "prompt_tokens": prompts},
    "h2o-mask-only": {},
    "vatp": {"heavy_ratio": ratios, "prompt_tokens": prompts},
    "snapkv": {"max_capacity_prompt": st.integers(33, 90), "prompt_tokens": prompts},
    "pyramidkv": {"max_capacity_prompt": st.integers(9, 90), "beta": st.integers(1, 9), "prompt_tokens": prompts},
    "ada-kv": {"base_capacity": st.integers(33, 90), "prompt_tokens": prompts},
    "l2-norm": {"keep_ratio": ratios, "prune_after": counts, "prompt_tokens": prompts},
    "duo-attention": {"sink_size": counts, "recent_size": counts, "mask_only": st.just("true")},
    "fastgen": {"heads_per_policy": st.sampled_from(["1+0+1+1+1", "2+2+2+1+1"]), "special_tokens": counts},
    "dmc": {"dmc_paged_block_size": st.integers(1, 20), "dmc_cr": st.sampled_from([1, "2.5", 4, "3.75"])},
    "dms": {"dms_paged_attention_block_size": st.integers(1, 20), "dms_window_size": st.integers(21, 60), "dms_cr": st.sampled_from([1, "2.5", 8])},
    "kivi": {"residual_length": st.sampled_from([32, 64, 96]), "group_size": groups, "bits": bits},
    "kvquant": {"bits": st.sampled_from([2, 3, 4]), "first_few_fp16": counts, "deployed": st.just("true")},
    "turboquant": {"residual_len": counts, "package": st.just("true")},
    "quanto": {"prompt_tokens": prompts, "residual_length": counts, "q_group_size": groups, "nbits": bits},
    "hqq": {"prompt_tokens": prompts, "residual_length": counts, "q_group_size": groups, "nbits": st.sampled_from([1, 2, 3, 4, 8])},
    "int4-grouped": {},
    "kv-dtype": {"k_dtype": st.sampled_from(["fp8", "q8_0"]), "v_dtype": st.sampled_from(["fp8", "q4_0"])},
    "per-token-head": {},
}  # fmt: skip
"""Methods that change how slots grow, by the parameters that say how."""


@st.composite
def under_methods(draw, base=models()):  # noqa: B008  # strategies are values
    """A model under one to three of five methods: those that take it, and each other."""
    model = draw(base)
    for spec in draw(st.lists(method_specs(), min_size=5, max_size=5)):
        with suppress(kvcalc.KvcalcError):
            model = kvcalc.apply_method(model, spec)
        if len(model.methods) == MOST_METHODS:
            break
    assume(model.methods)
    return model


MOST_METHODS = 3


@st.composite
def plain_heads(draw):
    """Models that most methods take: heads of keys and values, of widths that divide into groups and words."""
    heads = draw(st.sampled_from([2, 4, 8]))
    queries = heads * draw(st.sampled_from([1, 1, 4]))
    reach = draw(st.sampled_from([{}, {}, {"sliding_window": 50}]))
    full = GroupedQueryAttention(num_query_heads=queries, num_kv_heads=heads, head_dim=draw(st.sampled_from([32, 64])))
    other = replace(full, **reach)
    order = draw(st.lists(st.sampled_from(["full", "other"]), min_size=1, max_size=5))
    return Model("heads", group_layers(["full", *order], {"full": full, "other": other}))
