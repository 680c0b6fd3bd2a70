"""Random models for the laws: every attention kind, alone and as parts of a layer, every slot rule, several groups."""

from __future__ import annotations

from dataclasses import MISSING, fields

from hypothesis import strategies as st

from kvcalc.attention import KINDS, kind_named
from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.gla import GroupedLatentAttention
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.gta import GroupedTiedAttention
from kvcalc.attention.mfa_kr import KeyReuseAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.attention.tpa import TensorProductAttention
from kvcalc.dtypes import DTYPES
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
    if facts.get("index_head_dim") and "compress_rate" not in facts and "sliding_window" in facts:
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
