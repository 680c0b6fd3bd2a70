"""Recurrences without attention, or with an additional window: RWKV-4 and 7, xLSTM, RecurrentGemma.

Source: transformers 5.23 modeling_rwkv.py, modeling_xlstm.py, configuration_recurrent_gemma.py;
MLX-LM 0.32.2 models/rwkv7.py.
"""

from __future__ import annotations

from kvcalc.attention.mlstm import MatrixLstm
from kvcalc.attention.rg_lru import GatedLinearRecurrence
from kvcalc.attention.rwkv import Rwkv
from kvcalc.attention.wkv import MatrixWkv
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    LINEAR,
    SLIDING,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_layer,
    num_layers,
)
from kvcalc.units import shown

MODEL_TYPES = ("rwkv", "rwkv7", "xlstm", "recurrent_gemma")
_KIND_OF_BLOCK = {"recurrent": LINEAR, "attention": SLIDING}
_BLOCKS = ("recurrent", "recurrent", "attention")
"""Defaults of RecurrentGemma."""
UNUSED = ("head_dim",)
"""RecurrentGemma divides hidden_size by the heads."""
_XLSTM_MULTIPLE = 64
"""xLSTM rounds the widths of keys and values up to a multiple of this."""


def decoder(config: Config) -> Decoder:
    """RecurrentGemma repeats block_types down its layers; the others have one kind."""
    if config.model_type == "xlstm" and config.given("num_blocks"):
        config = config.with_values({"num_hidden_layers": config.value("num_blocks")})
    layers = num_layers(config)
    if config.model_type != "recurrent_gemma":
        return decoder_of(config, [LINEAR] * layers, _RECURRENCES[config.model_type])
    published = "_block_types" if config.given("_block_types") else "block_types"
    blocks = config.texts(published) if config.given(published) else list(_BLOCKS)
    if not blocks or not {*blocks} <= {*_KIND_OF_BLOCK}:
        raise config.wrong(
            "block_types",
            f"block_types must be a list of recurrent and attention, not {shown(blocks)}",
            "write [recurrent, recurrent, attention]",
        )
    return decoder_of(config, [_KIND_OF_BLOCK[blocks[i % len(blocks)]] for i in range(layers)], _griffin)


def _rwkv(kind: str, config: Config) -> Layer:
    facts = Facts(config).take("hidden_size")
    own = "attention_hidden_size" if "attention_hidden_size" in config else "hidden_size"
    return facts.take("attention_hidden_size", own).build(Rwkv)


def _rwkv7(kind: str, config: Config) -> Layer:
    """A state per head of head_dim, and the last input of time mix and channel mix."""
    hidden, width = config.integer("hidden_size"), config.integer("head_dim")
    if hidden % width:
        raise config.wrong(
            "head_dim", f"hidden_size ({hidden}) is not a multiple of head_dim ({width})", "check head_dim"
        )
    facts = Facts(config).take("hidden_size").take("wkv_head_dim", "head_dim")
    return facts.put("wkv_num_heads", hidden // width, config.origin("head_dim")).build(MatrixWkv)


def _xlstm(kind: str, config: Config) -> Layer:
    hidden = config.integer("embedding_dim" if config.given("embedding_dim") else "hidden_size")
    heads = config.integer("num_heads")
    facts = Facts(config).take("mlstm_num_heads", "num_heads")
    for fact, field in (("mlstm_qk_head_dim", "qk_dim_factor"), ("mlstm_v_head_dim", "v_dim_factor")):
        factor = config.value(field)
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= _XLSTM_MULTIPLE:
            raise config.wrong(field, f"{field} must be a number above 0, not {shown(factor)}", f"write {field}: 1.0")
        width = -(-int(hidden * factor) // _XLSTM_MULTIPLE) * _XLSTM_MULTIPLE
        facts.put(fact, width // heads, config.origin(field))
    return facts.build(MatrixLstm)


def _griffin(kind: str, config: Config) -> Layer:
    if kind == SLIDING:
        return gqa_layer(kind, config, own_head_dim=False)
    own = "lru_width" if "lru_width" in config else "hidden_size"
    return Facts(config).take("lru_width", own).take("lru_conv_kernel", "conv1d_width").build(GatedLinearRecurrence)


_RECURRENCES = {"rwkv": _rwkv, "rwkv7": _rwkv7, "xlstm": _xlstm}
