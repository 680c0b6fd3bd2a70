"""Dory: a section of layers that runs several times, and caches each time or only the last.

Source: transformers 5.24 configuration_dory.py, modeling_dory.py.
"""

from __future__ import annotations

from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import MLP, Decoder, decoder_of, full_each, gqa_layer, kinds_of, whole_number_or
from kvcalc.model import MAX_LAYERS
from kvcalc.units import shown

MODEL_TYPES = ("dory",)
UNUSED: tuple[str, ...] = ()
_PERIOD = 4
_PER_LOOP, _LAST_LOOP = "per_loop", "last_loop"


def decoder(config: Config) -> Decoder:
    """layer_types, else each 4th layer is full; layers of the recurrent section are repeated for each further loop.

    As published, layer_types lists attention and mlp as separate layers, and every count includes both.
    """
    kinds = kinds_of(config, full_each(_PERIOD))
    blocks = 2 if MLP in kinds else 1  # attention and mlp
    first, last = _recurrent(config, len(kinds))
    mode = config.text("recurrent_kv_cache_mode") or _PER_LOOP
    if mode not in (_PER_LOOP, _LAST_LOOP):
        raise config.wrong(
            "recurrent_kv_cache_mode",
            f"recurrent_kv_cache_mode must be {_PER_LOOP} or {_LAST_LOOP}, not {shown(mode)}",
            f"write {_PER_LOOP}",
        )
    loops = config.integer("n_recurrent_loops", most=MAX_LAYERS) if mode == _PER_LOOP else 1
    attention = kinds[::blocks]
    again = attention[first // blocks : last // blocks]
    if len(attention) + (loops - 1) * len(again) > MAX_LAYERS:
        raise config.wrong(
            "n_recurrent_loops", f"{loops:,} loops give more than {MAX_LAYERS:,} layers", "check the number of loops"
        )
    return decoder_of(config, attention + (loops - 1) * again, gqa_layer)


def _recurrent(config: Config, layers: int) -> tuple[int, int]:
    """Start and end of the recurrent section: what input and output leave, unless n_recurrent_layers gives it."""
    inputs, outputs = (whole_number_or(config, f"n_{name}_layers", 0) for name in ("input", "output"))
    recurrent = whole_number_or(config, "n_recurrent_layers", layers - inputs - outputs)
    if inputs + recurrent + outputs != layers or recurrent < 0:
        raise config.wrong(
            "num_hidden_layers",
            f"num_hidden_layers ({layers}) must be n_input_layers ({inputs}) + n_recurrent_layers ({recurrent}) + "
            f"n_output_layers ({outputs})",
            "use counts that add up",
        )
    return inputs, inputs + recurrent
