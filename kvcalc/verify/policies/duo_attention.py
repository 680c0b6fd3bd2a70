"""DuoAttention, run: retrieval heads keep everything, streaming heads their sinks and the newest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kvcalc.verify.policies._masked import MaskedPolicy
from kvcalc.verify.policies._policy import TokenPolicy, with_last
from kvcalc.verify.policies._ragged import Everything, Part, RaggedPolicy


class Streaming(TokenPolicy):
    """A head that keeps its sinks and the newest tokens."""

    def after_prompt(self, query: Tensor) -> None:  # noqa: ARG002  # no score is needed
        """Sinks and the newest of the prompt."""
        self._keep_ends(self.arguments["recent_size"])

    def before_step(self) -> None:
        """Makes room for the next token where the window is full."""
        self._keep_ends(self.arguments["recent_size"] - 1)

    def _keep_ends(self, newest: int) -> None:
        sinks, kept = self.arguments["sink_size"], self.key.shape[-2]
        if kept > sinks + newest:
            first = torch.arange(sinks, device=self.key.device).expand(*self.key.shape[:2], sinks)
            self.keep(with_last(first, newest, kept))


class MaskedStreaming(MaskedPolicy):
    """A head that keeps every token, and reads of the prompt its sinks and the newest."""

    def to_mask(self, query: Tensor) -> Tensor:  # noqa: ARG002  # no score is needed
        """Everything between."""
        sinks, newest = self.arguments["sink_size"], self.arguments["recent_size"]
        between: Tensor = (self.positions >= sinks) & (self.positions < self.seen - newest)
        return between


class DuoAttention(RaggedPolicy):
    """The first heads of a layer stand for its retrieval heads.

    Source: Xiao et al. 2024, arXiv 2410.10819, section 3.
    """

    def divide(self, heads: int, tokens: int) -> Sequence[Part]:  # noqa: ARG002  # whatever the prompt is
        """As many retrieval heads as given for this layer, or half of them."""
        given = self.arguments["retrieval_heads"]
        retrieval = heads // 2 if not given else given[0] if len(given) == 1 else given[self.place.layer]
        streaming = MaskedStreaming if self.arguments["mask_only"] else Streaming
        return [
            Part([*range(retrieval)], "", Everything(self.place, self.arguments)),
            Part([*range(retrieval, heads)], "_streaming", streaming(self.place, self.arguments)),
        ]


POLICY = DuoAttention
