"""StreamingLLM, run: sinks and a window that moves on before each token."""

from __future__ import annotations

import torch
from torch import Tensor

from kvcalc.verify.policies._policy import TokenPolicy, share_kept, with_last

_SINKS_OF_KVPRESS = 4


class StreamingLLM(TokenPolicy):
    """The first start_size tokens and the newest recent_size, the same in all heads.

    Source: Xiao et al. 2023, arXiv 2309.17453, section 3.2.
    """

    def after_prompt(self, query: Tensor) -> None:  # noqa: ARG002  # no score is needed
        """Sinks and the newest; by a ratio, as many of the newest as it leaves after four sinks."""
        ratio = self.arguments["compression_ratio"]
        if ratio is None:
            self._keep_ends(self.arguments["start_size"], self.arguments["recent_size"])
        else:
            kept = share_kept(self.seen, ratio)
            self._keep_ends(min(_SINKS_OF_KVPRESS, kept), max(0, kept - _SINKS_OF_KVPRESS))

    def before_step(self) -> None:
        """Drops the oldest of the window if it is full, so that the token fits; a cut by ratio does not roll."""
        if self.arguments["compression_ratio"] is None:
            self._keep_ends(self.arguments["start_size"], self.arguments["recent_size"] - 1)

    def _keep_ends(self, first: int, last: int) -> None:
        kept = self.key.shape[-2]
        if kept <= first + last:
            return
        sinks = torch.arange(first, device=self.key.device).expand(*self.key.shape[:2], first)
        self.keep(with_last(sinks, last, kept))


POLICY = StreamingLLM
