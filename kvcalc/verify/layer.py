"""One layer: the modules of its parts, run together, with a cache for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kvcalc.model import Attention
from kvcalc.verify.modules import module_for
from kvcalc.verify.modules._module import ALONE, Advisor, CacheModule, Context, Kept
from kvcalc.verify.modules._slots import Cache

HIDDEN_SIZE = 1024
"""Width of a layer's input if the facts do not give it: weights depend on it, caches do not."""
Caches = tuple[Cache, ...]
"""Caches of a layer's parts."""


class Layer(nn.Module):
    """Parts that read the same input: advisors say where to look, and the outputs of the others are added up."""

    def __init__(self, parts: Sequence[Attention], *, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.hidden_size: int = next((part.hidden_size for part in parts if hasattr(part, "hidden_size")), HIDDEN_SIZE)
        self.dtype, self.device = dtype, device
        self.parts = nn.ModuleList(
            module_for(part)(part, self.hidden_size, dtype=dtype, device=device) for part in parts
        )

    def modules_of_parts(self) -> list[CacheModule]:
        """The parts, with their type."""
        return [part for part in self.parts if isinstance(part, CacheModule)]

    def new_caches(self, sequences: int, capacity: int, dtype: torch.dtype) -> Caches:
        """Empty caches of all parts, for `capacity` tokens."""
        return tuple(part.new_cache(sequences, capacity, dtype) for part in self.modules_of_parts())

    def kept(self, hidden: Tensor) -> tuple[Kept, ...]:
        """What the parts cache for `hidden`, to fill caches with."""
        return tuple(part.kept(hidden) for part in self.modules_of_parts())

    def write(self, kept: Sequence[Kept], caches: Caches, tokens: int) -> None:
        """Fills empty caches to `tokens` tokens without attention, by repeating the rows of a few."""
        for part, of_part, cache in zip(self.modules_of_parts(), kept, caches, strict=True):
            part.write(of_part, cache, tokens)

    def forward(self, hidden: Tensor, caches: Caches | None = None, context: Context = ALONE) -> Tensor:
        """Output (sequences, tokens, hidden_size) for the next tokens; without caches, for a whole sequence."""
        parts = self.modules_of_parts()
        each = list(zip(parts, caches or (None,) * len(parts), strict=True))
        for part, cache in each:
            context = part.advise(hidden, cache, context)
        outputs = [part(hidden, cache, context) for part, cache in each if not isinstance(part, Advisor)]
        return torch.stack(outputs).sum(dim=0)
