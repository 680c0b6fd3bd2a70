"""YOCO: the first half of the layers has a window or state, and the second half shares one cache of keys and values."""

from __future__ import annotations

from dataclasses import replace

from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.gated_retention import GatedRetention
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.none import NoCache
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.methods._rebuild import check_untouched, only_attention, origins_of, own_kv_heads, rebuilt_drafts
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.model import Attention, Model, group_layers
from kvcalc.units import plural, positive_int

TRAITS = Traits(
    ARCHITECTURE,
    "half of the layers have a window or state, the others share one cache",
    source="Sun et al. 2024, arXiv 2405.05254; microsoft/unilm, YOCO",
    formula=(
        "Elements: 2 * n_attn_kv_heads * head_dim per token in one layer; a state or a window in each of the first "
        "half."
    ),
    parameters={
        "sliding_window": (
            "window of the self-decoder, 1024 in the paper; default: gated retention, as in the authors' code"
        ),
        "n_self_heads": (
            "heads of the self-decoder; default: the model's query heads, whose width times number is dim"
        ),
        "n_attn_kv_heads": "KV heads of the shared cache; default: the model's, or one per query head",
    },
    remarks=(
        (
            "A window takes 2 * sliding_window * dim elements per layer, since each of its n_self_heads heads has a "
            "key and a value; gated retention takes n_self_heads * (dim / n_self_heads)^2."
        ),
        "Layers after the caching one read its keys and values.",
        "Models whose layers differ, or whose number of layers is odd, are refused.",
    ),
    retraining=True,
    caveat="the authors' code allocates max_seq_len slots at once; a pipeline stage of cross layers needs a copy",
)


def apply(
    model: Model,
    sliding_window: int | None = None,
    n_self_heads: int | None = None,
    n_attn_kv_heads: int | None = None,
) -> Model:
    """`model` with a self-decoder of fixed memory and one cache for the other half of its layers.

    Raises NotApplicableError if layers differ or their number is odd, which the authors' code halves rounding down;
    InvalidValueError for heads that do not divide dim.
    """
    check_untouched(model, "YOCO")
    attention = only_attention(model, "YOCO", "caches once for all layers")
    if model.num_layers % 2:
        raise NotApplicableError(
            f"YOCO halves the layers, but {model.name} has {model.num_layers:,}",
            help="use it on a model with an even number of layers",
        )
    self_heads = attention.num_query_heads if n_self_heads is None else n_self_heads
    forgets = _self_decoder(attention, sliding_window, self_heads)
    keeps = GroupedQueryAttention(
        num_query_heads=attention.num_query_heads,
        num_kv_heads=own_kv_heads(attention) if n_attn_kv_heads is None else n_attn_kv_heads,
        head_dim=attention.head_widths[0],
    )
    half = model.num_layers // 2
    names = ("self",) * half + ("global",) + ("cross",) * (half - 1)
    parts = {"self": forgets, "global": keeps, "cross": NoCache(reads_cache=True)}
    origins = {name: origins_of((part,), model.groups[0], "YOCO") for name, part in parts.items()}
    groups = group_layers(names, parts, origins)
    note = f"as YOCO: {plural(half, 'layer')} of {_words(forgets)}; layer {half} caches "
    note += f"{plural(keeps.num_kv_heads, 'KV head')} of {keeps.head_dim} for itself and the layers after it"
    drafts = rebuilt_drafts(model, "YOCO", keeps)
    return replace(model, name=f"{model.name} as YOCO", groups=groups, draft_groups=drafts, notes=(*model.notes, note))


def _self_decoder(attention: TokenCache, sliding_window: int | None, heads: int) -> Attention:
    dim = attention.num_query_heads * attention.head_widths[0]
    if dim % positive_int(heads, "n_self_heads"):
        raise InvalidValueError(
            f"n_self_heads ({heads:,}) does not divide dim ({dim:,}), the width of all query heads",
            field="n_self_heads",
            help=f"remove it for {attention.num_query_heads}",
        )
    if sliding_window is None:
        return GatedRetention(linear_num_heads=heads, linear_head_dim=dim // heads)
    return GroupedQueryAttention(
        num_query_heads=heads, num_kv_heads=heads, head_dim=dim // heads, sliding_window=sliding_window
    )


def _words(forgets: Attention) -> str:
    if isinstance(forgets, GatedRetention):
        return f"gated retention with {plural(forgets.linear_num_heads, 'head')} of {forgets.linear_head_dim}"
    (keys, _) = forgets.tensors()
    heads, width = keys.dims
    return f"{plural(heads.size, 'head')} of {width.size} with the {keys.slot_rule} tokens"
