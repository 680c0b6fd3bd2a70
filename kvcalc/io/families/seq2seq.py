"""Encoder-decoders whose fields name the decoder's side: BART and similar, T5 and similar, Whisper, Moonshine, Dia.

Source: transformers 5.23 modeling_bart.py, modeling_t5.py, modeling_whisper.py, modeling_moonshine.py, modeling_dia.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kvcalc.attention.cross import CrossAttention
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import FULL, Decoder, Facts, Layer, decoder_of, hidden_per_head
from kvcalc.model import MAX_LAYERS


class _Names(NamedTuple):
    """Fields of the decoder's facts. head_dim: empty if it is hidden size / heads."""

    layers: str = "decoder_layers"
    heads: str = "decoder_attention_heads"
    kv_heads: str = ""
    head_dim: str = ""
    encoder_tokens: str = ""


_BART = _Names()
_T5 = _Names("num_decoder_layers", "num_heads", head_dim="d_kv")
_BY_TYPE = {
    **dict.fromkeys(("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "fsmt", "led"), _BART),
    **dict.fromkeys(("m2m_100", "marian", "mbart", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart"), _BART),
    **dict.fromkeys(("seamless_m4t", "seamless_m4t_v2", "speech_to_text", "speecht5", "trocr"), _BART),
    "pp_formulanet_text": _BART,
    "whisper": _BART._replace(encoder_tokens="max_source_positions"),
    "prophetnet": _Names("num_decoder_layers", "num_decoder_attention_heads"),
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "switch_transformers", "pop2piano", "udop"), _T5),
    "pix2struct_text_model": _Names("num_layers", "num_heads", head_dim="d_kv"),
    "moonshine": _Names("decoder_num_hidden_layers", "decoder_num_attention_heads", "decoder_num_key_value_heads"),
}
MODEL_TYPES = (*_BY_TYPE, "dia_decoder")
UNUSED: tuple[str, ...] = ()


def decoder(config: Config) -> Decoder:
    """All layers attend to every token, and to every encoder token in encoder-decoders."""
    if config.model_type == "dia_decoder":
        return decoder_of(config, [FULL] * config.integer("num_hidden_layers", most=MAX_LAYERS), _dia_layer)
    names = _BY_TYPE[config.model_type]
    field = names.layers if names.layers in config else "num_layers"  # T5: as many as the encoder
    layers = config.integer(field, most=MAX_LAYERS)
    built = decoder_of(config, [FULL] * layers, _layer_of(names))
    return built._replace(num_layers_origin=config.origin(field))


def _layer_of(names: _Names) -> Callable[[str, Config], Layer]:
    def layer_of(kind: str, config: Config) -> Layer:
        facts = Facts(config).take("num_query_heads", names.heads)
        kv_heads = names.kv_heads if names.kv_heads and names.kv_heads in config else names.heads
        facts.take("num_kv_heads", kv_heads)
        if names.head_dim:
            facts.take("head_dim", names.head_dim)
        else:
            facts.put("head_dim", hidden_per_head(config, names.heads), config.origin("hidden_size"))
        layer = facts.build(GroupedQueryAttention)
        if not config.cross:
            return layer
        cross = Facts(config).take("cross_num_kv_heads", kv_heads)
        cross.put("cross_head_dim", facts.values["head_dim"], facts.origins["head_dim"])
        if names.encoder_tokens:
            cross.take_if_there("encoder_tokens", names.encoder_tokens)
        return layer + cross.build(CrossAttention)

    return layer_of


def _dia_layer(kind: str, config: Config) -> Layer:
    facts = Facts(config).take("num_query_heads", "num_attention_heads").take("num_kv_heads", "num_key_value_heads")
    cross = Facts(config).take("cross_num_kv_heads", "cross_num_key_value_heads").take("cross_head_dim")
    return facts.take("head_dim").build(GroupedQueryAttention) + cross.build(CrossAttention)
