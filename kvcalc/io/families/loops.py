"""Stacks of layers that run several times and cache each time: IQuest Loop Coder and Nanbeige 4.

Source: vLLM 0.33 models/iquest_loopcoder.py; MLX-LM 0.32.2 models/iquestloopcoder.py, models/nanbeige.py.
"""

from __future__ import annotations

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    SLIDING,
    Decoder,
    Layer,
    decoder_of,
    gqa_facts,
    gqa_layer,
    num_layers,
    only,
)
from kvcalc.model import MAX_LAYERS

MODEL_TYPES = ("iquestloopcoder", "nanbeige")
UNUSED: tuple[str, ...] = ()
_LOOPS, _WINDOW = 2, 64
"""Defaults of IQuest Loop Coder."""
_OTHER_CACHES = ("enable_double_loop_split", "loop_share_kv", "enable_depth_attention")
"""Switches of Nanbeige that change what layers cache; MLX-LM refuses them, too."""


def decoder(config: Config) -> Decoder:
    """IQuest's first loop sees every token and each later one the last 64; all of Nanbeige's loops see every token."""
    layers = num_layers(config)
    if config.model_type == "nanbeige":
        for name in _OTHER_CACHES:
            if config.boolean(name):
                raise config.wrong(name, f"the cache of layers with {name} is unknown", "write its facts as a preset")
        return decoder_of(config, [FULL] * _counted(config, layers * _nanbeige_loops(config), "num_loops"), gqa_layer)
    loops = config.integer_or("loop_num", _LOOPS) or _LOOPS
    later = _counted(config, layers * loops, "loop_num") - layers
    return decoder_of(config, [FULL] * layers + [SLIDING] * later, _iquest_layer)


def _nanbeige_loops(config: Config) -> int:
    """num_loops; a checkpoint trained with a loss per loop has one weight per loop except the first."""
    weights = config.value("loop_loss_weights")
    return len(weights) + 1 if isinstance(weights, list) and weights else config.integer("num_loops")


def _counted(config: Config, cached: int, field: str) -> int:
    if cached > MAX_LAYERS:
        raise config.wrong(
            field, f"{cached:,} cached layers exceed the limit of {MAX_LAYERS:,}", "check the number of loops"
        )
    return cached


def _iquest_layer(kind: str, config: Config) -> Layer:
    only(config, kind, FULL, SLIDING)
    facts = gqa_facts(config)
    if kind == SLIDING:
        window = config.integer_or("loop_window_size", _WINDOW) or _WINDOW
        facts.put("sliding_window", window, config.origin("loop_window_size"))
    return facts.build(GroupedQueryAttention)
