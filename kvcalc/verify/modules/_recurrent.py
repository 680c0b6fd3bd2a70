"""Recurrent parts: a state of fixed size that every token rewrites, and short convolutions that keep a few inputs."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from kvcalc.attention._facts import Facts
from kvcalc.verify.devices import TORCH_DTYPES
from kvcalc.verify.modules._module import ALONE, CacheModule, Context, Kept
from kvcalc.verify.modules._slots import Cache, State

KEPT_OF = 16
"""Tokens run to stand for any length: no byte of a state depends on their number."""
States = dict[str, Tensor]


class RecurrentModule(CacheModule):
    """A part whose cache is a handful of states, none of which grows."""

    facts: Facts

    @abstractmethod
    def first_states(self, sequences: int) -> States:
        """States before the first token, by the cache's names."""

    @abstractmethod
    def mix(self, hidden: Tensor, states: States) -> tuple[Tensor, States]:
        """Output of `hidden` (sequences, tokens, hidden_size), and the states after it."""

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:  # noqa: ARG002
        """The states, in the module's dtype or their own, independent of the format of K and V."""
        return {name: State(data) for name, data in self.first_states(sequences).items()}

    def forward(self, hidden: Tensor, cache: Cache | None = None, context: Context = ALONE) -> Tensor:  # noqa: ARG002
        """Runs the recurrence from the cached states, and overwrites them with the final ones."""
        before = {name: held.data for name, held in cache.items()} if cache else self.first_states(hidden.shape[0])
        output, after = self.mix(hidden, before)
        for name, held in (cache or {}).items():
            held.data.copy_(after[name])
        return output

    def kept(self, hidden: Tensor) -> Kept:
        """The states after a few tokens: they do not grow."""
        return self.mix(hidden[:, :KEPT_OF], self.first_states(hidden.shape[0]))[1]

    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:  # noqa: ARG002
        """The states."""
        for name, state in kept.items():
            cache[name].data.copy_(state)

    @property
    def state_dtype(self) -> torch.dtype:
        """Format of the recurrence's state; a float64 module is exact throughout."""
        named = self.facts.dtype_of("state_dtype")
        return self.dtype if named is None or self.dtype == torch.float64 else TORCH_DTYPES[named.name]

    def zeros(self, *shape: int, recurrent: bool = True) -> Tensor:
        """An empty state: of the recurrence in state_dtype, of a convolution in the module's dtype."""
        return torch.zeros(*shape, dtype=self.state_dtype if recurrent else self.dtype, device=self.device)

    def before_conv(self, sequences: int, weights: Tensor) -> Tensor:
        """Inputs (sequences, channels, kernel - 1) before the first token, of a convolution of (channels, kernel)."""
        channels, kernel = weights.shape
        return self.zeros(sequences, channels, kernel - 1, recurrent=False)


def causal_conv(inputs: Tensor, before: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution of (sequences, tokens, channels), after the kernel - 1 inputs `before` them.

    weights: (channels, kernel). Returns outputs of the inputs' shape, and the inputs that the next token will read.
    """
    joined = torch.cat([before, inputs.transpose(1, 2)], dim=-1)  # (B, N, C) -> (B, C, kernel - 1 + N)
    outputs = conv1d(joined, weights[:, None], groups=weights.shape[0])  # (B, C, N)
    return outputs.transpose(1, 2), joined[..., joined.shape[-1] - before.shape[-1] :]


def stepped(outputs: list[Tensor]) -> Tensor:
    """Outputs of single tokens as one sequence: each (sequences, ...) -> (sequences, tokens, ...)."""
    return torch.stack(outputs, dim=1)
