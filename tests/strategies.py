"""Random models for the laws: every attention kind, every slot rule, several groups."""

from __future__ import annotations

from hypothesis import strategies as st

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.dtypes import DTYPES
from kvcalc.model import Model, group_layers

widths = st.integers(1, 256)
dtypes = st.sampled_from(DTYPES)
tokens = st.integers(1, 10**6)
sequences = st.integers(1, 1000)


@st.composite
def reaches(draw):
    """How far back a layer looks: everything, a window or a chunk."""
    field = draw(st.sampled_from([None, "sliding_window", "attention_chunk_size"]))
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


attentions = gqa() | mla()


@st.composite
def models(draw):
    """A model of one to three groups, laid out in any order."""
    kinds = draw(st.lists(attentions, min_size=1, max_size=3))
    names = [f"kind{i}" for i in range(len(kinds))]
    order = [*names, *draw(st.lists(st.sampled_from(names), max_size=20))]
    return Model("random", group_layers(draw(st.permutations(order)), dict(zip(names, kinds, strict=True))))
