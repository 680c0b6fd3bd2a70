"""Types with unique rules: CPM-Ant, GPT-Neo, HRM, ModernBERT's decoder, Reformer, Step 3.5, XLNet.

Source: transformers 5.23, configuration_*.py and modeling_*.py of each.
"""

from __future__ import annotations

from math import lcm

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.hidden import HiddenStates
from kvcalc.attention.prefix import PrefixTokens
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    SLIDING,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_facts,
    gqa_layer,
    kinds_of,
    letters,
    num_layers,
    only,
    whole_number_or,
    with_reach,
)
from kvcalc.io.families._drafts import num_drafts
from kvcalc.model import MAX_LAYERS
from kvcalc.units import shown

MODEL_TYPES = ("cpmant", "gpt_neo", "hrm_text", "modernbert-decoder", "reformer", "step3p5", "xlnet")
UNUSED: tuple[str, ...] = ()
_GLOBAL_EVERY = 3
_LOCAL, _LSH = "local", "lsh"
_CHUNKS = {_LOCAL: "local_attn_chunk_length", _LSH: "lsh_attn_chunk_length"}
"""Layers of Reformer, and the field of their chunk."""


def decoder(config: Config) -> Decoder:
    """Layers of each type."""
    return _DECODERS[config.model_type](config)


def _cpmant(config: Config) -> Decoder:
    def layer_of(kind: str, own: Config) -> Layer:
        facts = Facts(own).take("num_query_heads", "num_attention_heads").take("num_kv_heads", "num_attention_heads")
        facts.take("head_dim", "dim_head")
        prefix = Facts(own).take("prefix_tokens", "prompt_length").take("num_kv_heads", "num_attention_heads")
        return facts.build(GroupedQueryAttention) + prefix.take("head_dim", "dim_head").build(PrefixTokens)

    return decoder_of(config, [FULL] * num_layers(config), layer_of)


def _gpt_neo(config: Config) -> Decoder:
    """attention_types [[["global", "local"], 12]]: the names, and how often they are repeated."""
    layers = num_layers(config)
    given = config.value("attention_types") or [[["global", "local"], 1]]
    pattern: list[str] = []
    try:
        for names, times in given if isinstance(given, list | tuple) else ():
            for _ in range(times if 0 < times <= layers else 1):
                pattern += list(names) if len(pattern) < layers else []
        kinds = [{"global": FULL, "local": SLIDING}[pattern[layer % len(pattern)]] for layer in range(layers)]
    except (TypeError, ValueError, KeyError, ZeroDivisionError):
        raise config.wrong(
            "attention_types",
            f"attention_types must be like [[['global', 'local'], 12]], not {shown(given)}",
            "name the layers' kinds and how often they are repeated",
        ) from None

    def layer_of(kind: str, own: Config) -> Layer:
        facts = gqa_facts(own, own_head_dim=False)
        return (facts.take("sliding_window", "window_size") if kind == SLIDING else facts).build(GroupedQueryAttention)

    return decoder_of(config, kinds, layer_of)


def _hrm_text(config: Config) -> Decoder:
    """Each stack of layers runs several times, and caches each time: (L_cycles + 1) * H_cycles."""
    if config.given("num_layers_per_stack"):  # as saved by transformers: num_hidden_layers counts all of them
        layers = num_layers(config)
    else:
        cycles = config.integer("H_cycles") * (config.integer("L_cycles") + 1)
        layers = num_layers(config) * cycles
        if layers > MAX_LAYERS:
            raise config.wrong(
                "H_cycles", f"{layers:,} cached layers exceed the limit of {MAX_LAYERS:,}", "check the number of cycles"
            )
    return decoder_of(config, [FULL] * layers, gqa_layer)


def _modernbert(config: Config) -> Decoder:
    """Each third layer is global; the others see half of local_attention."""
    period = config.integer_or("global_attn_every_n_layers", _GLOBAL_EVERY) or _GLOBAL_EVERY
    kinds = kinds_of(config, lambda layers: [SLIDING if layer % period else FULL for layer in range(layers)])

    def layer_of(kind: str, own: Config) -> Layer:
        only(own, kind, FULL, SLIDING)
        facts = gqa_facts(own, own_head_dim=False)
        if kind == SLIDING:
            facts.put("sliding_window", own.integer("local_attention") // 2, own.origin("local_attention"))
        return facts.build(GroupedQueryAttention)

    return decoder_of(config, kinds, layer_of)


def _reformer(config: Config) -> Decoder:
    """attn_layers: local, or lsh, whose tokens are hashed."""
    layers = config.texts("attn_layers")
    if not layers or len(layers) > MAX_LAYERS:
        raise config.missing("attn_layers", "name each layer local or lsh")
    if not {*layers} <= {_LOCAL, _LSH}:
        raise config.wrong(
            "attn_layers", f"attn_layers must name each layer local or lsh, not {shown(layers)}", "write local or lsh"
        )

    def layer_of(kind: str, own: Config) -> Layer:
        facts = Facts(own).take("hidden_size")
        return (_hashed(facts, own, {*layers}) if kind == _LSH else facts).build(HiddenStates)

    return decoder_of(config.with_values({"num_hidden_layers": len(layers)}), layers, layer_of)


def _hashed(facts: Facts, config: Config, kinds: set[str]) -> Facts:
    """A prompt beyond the shortest chunk is padded to whole chunks of all kinds, and hashed if longer than one."""
    chunks = [config.integer(_CHUNKS[kind]) for kind in sorted(kinds)]
    facts.take("hash_heads", "num_attention_heads").take("num_hashes")
    chunk = facts.take("hash_chunk", _CHUNKS[_LSH]).whole("hash_chunk")
    beyond = chunk if lcm(*chunks) == chunk else min(chunks)
    return facts.put("hash_beyond", beyond, facts.origins["hash_chunk"])


def _step(config: Config) -> Decoder:
    """Sliding layers have their own query heads; layer_types may continue for the multi-token-prediction layers."""
    layers, drafts = num_layers(config), num_drafts(config)
    types = config.value("layer_types")
    if isinstance(types, list) and len(types) == layers + drafts:
        config = config.with_values({"layer_types": types[:layers]})

    def layer_of(kind: str, own: Config) -> Layer:
        only(own, kind, FULL, SLIDING)
        facts = gqa_facts(own)
        if kind == SLIDING:
            facts.take_if_there("num_query_heads", "num_sliding_attention_heads")
        return with_reach(facts, kind).build(GroupedQueryAttention)

    return decoder_of(config, kinds_of(config, letters("F")), layer_of, draft=FULL, num_drafts=drafts)


def _xlnet(config: Config) -> Decoder:
    """A memory of mem_len hidden states."""
    reused = whole_number_or(config, "reuse_len", 0)
    note = (
        f"reuse_len {reused}: transformers keeps only the first {reused} hidden states of each pass; here all are "
        "counted"
    )
    return decoder_of(
        config,
        [FULL] * num_layers(config),
        lambda _, own: Facts(own).take("hidden_size").take_if_there("memory_tokens", "mem_len").build(HiddenStates),
        notes=(note,) if reused else (),
    )


_DECODERS = {
    "cpmant": _cpmant,
    "gpt_neo": _gpt_neo,
    "hrm_text": _hrm_text,
    "modernbert-decoder": _modernbert,
    "reformer": _reformer,
    "step3p5": _step,
    "xlnet": _xlnet,
}
