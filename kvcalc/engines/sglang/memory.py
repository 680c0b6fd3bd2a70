"""SGLang's share of a GPU's memory if mem_fraction_static is not given.

    mem_fraction_static = round((gpu - reserve) / gpu, 3), in MiB of what nvidia-smi calls the total
    reserve             = 512 + 1.5 * tokens of a prefill chunk + 128 * ranks + graphs, and on GPUs of more than 60 GiB
                          at least 10 GiB
    graphs              = 2 * largest decode batch + 3 (above 300 requests 4.5) * that * dp with data-parallel attention
                          + 8 for each captured prefill size, or 1,536 for latents

A model that sees images gets 0.95 of that, reduced by the size of its vision tower.
Source: SGLang, arg_groups/memory_hook.py, cuda_graph_hook.py, model_overrides/qwen3_vl.py.
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.engines.sglang.backends import HOPPER, has_latents, major
from kvcalc.engines.sglang.compressed import is_compressed
from kvcalc.engines.sglang.settings import UNCHUNKED, SglangSettings
from kvcalc.engines.sglang.types import GRAPHS_WITH_IMAGES, KIMI_LINEAR, SEES_ON_DEMAND, is_of
from kvcalc.errors import InvalidValueError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import MIB

_GIB_IN_MIB = 1024


class Capacity(NamedTuple):
    """Defaults of GPUs with less memory than this. few: requests of the largest decode graph; many: on 4+ ranks."""

    below_gib: int | None
    chunk_tokens: int
    few: int
    many: int


_CAPACITIES = (
    Capacity(20, 2048, 8, 8),
    Capacity(35, 4096, 48, 160),
    Capacity(60, 4096, 32, 160),
    Capacity(160, 8192, 256, 512),
    Capacity(None, 16384, 512, 512),
)
_MANY_RANKS = 4
_LARGE_GIB = 60
_CONSTANT_MIB, _FLOOR_MIB, _RANK_MIB, _LATENT_GRAPHS_MIB = 512, 10 * _GIB_IN_MIB, 128, 1536
_FEWEST_TOKENS = 2048
_UNCHUNKED_TOKENS = 16384
"""max_prefill_tokens, if prompts are not chunked."""
_MANY_REQUESTS = 300
_LATENT_PREFILL = 8192
_PREFILL_STEPS = ((32, 4), (256, 16), (512, 32), (1024, 64), (4096, 256), (None, 512))
"""Captured prefill sizes: up to this many tokens, in these steps."""
_PLAIN_LAYERS, _PLAIN_WIDTH = 24, 1024
"""ViT-L/14, the reference for vision towers."""
_SENSITIVITY, _LEAST, _MOST, _SEEING = 0.1, 0.8, 1.05, 0.95


def memory_mib(gpu: str) -> int:
    """Memory of a GPU as SGLang asks nvidia-smi for it, or as its driver reports it."""
    found = gpu_named(gpu)
    return found.nvidia_smi_mib or found.memory_bytes // MIB


def default_chunk_tokens(gpu: str) -> int:
    """Tokens of a prefill chunk on such a GPU."""
    return _capacity(memory_mib(gpu)).chunk_tokens


def _capacity(mib: int) -> Capacity:
    return next(each for each in _CAPACITIES if each.below_gib is None or mib < each.below_gib * _GIB_IN_MIB)


def default_fraction(model: Model, settings: SglangSettings, ranks: Parallel) -> float:
    """mem_fraction_static for a model on these ranks, dp of which share attention (tp * dp in SGLang's own count).

    Raises InvalidValueError if the size of the vision tower is unknown, or nothing is left.
    """
    mib = memory_mib(settings.gpu)
    tp, capacity = ranks.tp * ranks.dp, _capacity(mib)
    chunk = settings.chunked_prefill_size or capacity.chunk_tokens
    tokens = max(_UNCHUNKED_TOKENS if chunk == UNCHUNKED else chunk, _FEWEST_TOKENS)
    reserve = _CONSTANT_MIB + 1.5 * tokens + _RANK_MIB * tp * ranks.pp
    batch = _decode_batch(model, settings, capacity.few if tp < _MANY_RANKS else capacity.many)
    if not settings.disable_cuda_graph:
        reserve += 2 * batch
    if ranks.dp > 1:
        reserve += batch * ranks.dp * (4.5 if batch > _MANY_REQUESTS else 3)
    reserve += _prefill_graphs_mib(model, settings, chunk, ranks)
    if mib > _LARGE_GIB * _GIB_IN_MIB:
        reserve = max(reserve, _FLOOR_MIB)
    return round((mib - reserve) / mib, 3) * _share_of_text(model)


def _decode_batch(model: Model, settings: SglangSettings, most: int) -> int:
    """Requests of the largest decode graph."""
    asked = settings.max_running_requests
    if asked is None:
        return most
    grows = is_of(model, ("qwen3_vl", "qwen3_vl_moe")) and major(settings) == HOPPER and asked <= _VISION_REQUESTS
    return asked if grows else min(most, asked)


_VISION_REQUESTS = 512
"""Most requests up to which Qwen3-VL's decode graphs grow with max_running_requests."""


def _prefill_graphs_mib(model: Model, settings: SglangSettings, chunk: int, ranks: Parallel) -> int:
    sees = (model.published.vision is not None and not is_of(model, SEES_ON_DEMAND)) or is_of(model, ("whisper",))
    if (
        settings.disable_cuda_graph
        or ranks.pp > 1
        or is_of(model, KIMI_LINEAR)
        or is_compressed(model)
        or (sees and not is_of(model, GRAPHS_WITH_IMAGES))
    ):
        return 0
    if has_latents(model):
        return _LATENT_GRAPHS_MIB
    most = min(chunk, settings.max_total_tokens or chunk)
    return 8 * _prefill_sizes(most)


def _prefill_sizes(most: int) -> int:
    """Captured prefill sizes, up to `most` tokens."""
    count = last = 0
    for until, step in _PREFILL_STEPS:
        end = most if until is None else min(until, most)
        count += max(0, end - last) // step
        last = max(last, end)
    return count


def _share_of_text(model: Model) -> float:
    """Factor on the share of a model that sees images: lower by its vision tower's size, 1 for a text model."""
    vision = model.published.vision
    if vision is None or is_of(model, SEES_ON_DEMAND):
        return 1
    if vision.hidden_size is None:
        raise InvalidValueError(
            f"the config of {model.name} does not give the width of its vision tower, by which SGLang lowers "
            "mem_fraction_static",
            field="mem_fraction_static",
            help="set --engine-set mem_fraction_static=0.8: a start-up log prints it among server_args",
        )
    layers = vision.num_layers or _PLAIN_LAYERS
    size = layers * vision.hidden_size**2 / (_PLAIN_LAYERS * _PLAIN_WIDTH**2)
    return _SEEING * max(_LEAST, min(_MOST, 1 - _SENSITIVITY * (size - 1)))
