"""Arrays that MLX-LM quantises once they hold quantized_kv_start tokens, and when it fails.

    each head, token and group: group_size * bits / 8 bytes of codes, a scale and a bias in the model's dtype

After each read (a chunk of the prompt, or one token) maybe_quantize_kv_cache checks the length of every cache. Rings
cannot be quantised, nor can rows that groups do not divide, and MLX-LM fails immediately; a module that treats the
result as an array fails one token later, when it reads the cache.
Source: MLX-LM, mlx_lm/generate.py (maybe_quantize_kv_cache) and mlx_lm/models/cache.py; mx.quantize.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.packing import grouped, int_codes
from kvcalc.cache.slots.engines import switched
from kvcalc.cache.slots.layers import once
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base.longest import Longest
from kvcalc.model import LayerGroup

_HELP = "remove kv_bits, or raise quantized_kv_start"
_NONE = once(0, words="none")


class Quantising(NamedTuple):
    """bits, group_size: of the codes. start: tokens from which caches are quantised. dtype: of the model."""

    bits: int
    group_size: int
    start: int
    dtype: Dtype

    @property
    def first(self) -> int:
        """Tokens of the shortest sequence whose caches are quantised; an empty cache is not."""
        return max(1, self.start)

    def divides(self, tensor: CacheTensor) -> bool:
        """Whether groups divide a row; otherwise MLX refuses to quantise it."""
        return tensor.dims[-1].size % self.group_size == 0

    def limit(self, group: LayerGroup, tensor: CacheTensor, ring: bool, chunked: bool) -> Longest | None:
        """The last length before quantising an array fails; None if it never does."""
        if ring:
            words = f"RotatingKVCache Quantization NYI: {group.name} layers keep {tensor.name} in a ring"
            return Longest(self.first - 1, words, _HELP)
        if chunked or self.divides(tensor):
            return None
        return Longest(
            self.first - 1,
            "[quantize] The last dimension of the matrix needs to be divisible by the quantization group size "
            f"{self.group_size}: the {tensor.dims[-1].size} elements of a head of {tensor.name} are not",
            _HELP,
        )

    def fails(self, module: str) -> Longest:
        """The last length before a module reads quantised caches that it cannot use."""
        words = f"MLX-LM's {module} treats its cache as arrays, and fails on quantised ones"
        return Longest(self.first, words, _HELP)

    def stored(self, tensor: CacheTensor) -> Iterator[CacheTensor]:
        """The tensor while it is short, and its codes, scales and biases from then on."""
        rule = tensor.slot_rule
        late = rule
        if self.first > 1:
            late = switched(_NONE, self.first, rule, words=f"{rule}, from {self.first:,} on")
            early = switched(rule, self.first, _NONE, words=f"{rule}, up to {self.first - 1:,}")
            yield tensor._replace(slot_rule=early)
        yield from grouped(tensor, int_codes(self.bits), self.group_size, late, scale_dtype=self.dtype)
