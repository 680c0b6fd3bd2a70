"""Methods that only mask tokens: all stay cached, and prompt tokens that a method would drop are not read again."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import pad

from kvcalc.verify.policies._policy import TokenPolicy, attention_weights, mixed


class MaskedPolicy(TokenPolicy):
    """All tokens of a layer, and which of them are masked.

    mask: (B, h, T), true where a token is not read. indices: sequence, head and token of each such entry, int64.
    """

    @abstractmethod
    def to_mask(self, query: Tensor) -> Tensor:
        """Which tokens of the prompt are not read again, (B, h, n); query: (B, H, n, D)."""

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Keys, values, and the indices."""
        return {**super().held, "masked_indices": self.indices}

    def after_prompt(self, query: Tensor) -> None:
        """Masks, and keeps."""
        self.mask = self.to_mask(query)
        self.indices = self.mask.nonzero().T.contiguous()

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Adds the token, and reads those that are not masked."""
        self.add(key, value)
        self.mask = pad(self.mask, (0, 1))
        shared = query.shape[1] // self.mask.shape[1]
        unread = self.mask.repeat_interleave(shared, dim=1).unsqueeze(-2)  # (B, h, T) -> (B, H, 1, T)
        weights = attention_weights(query, self.key).masked_fill(unread, 0)
        return mixed(weights / weights.sum(dim=-1, keepdim=True), self.value)
