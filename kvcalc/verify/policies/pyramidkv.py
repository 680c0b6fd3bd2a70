"""PyramidKV, run: SnapKV with the budget of its layer."""

from __future__ import annotations

from kvcalc.verify.policies.snapkv import SnapKV


class PyramidKV(SnapKV):
    """SnapKV in every layer, with capacities that shrink from the bottom layer to the top.

    Source: Cai et al. 2024, arXiv 2406.02069, section 4.
    """

    def capacity(self) -> int:
        """This layer's share of the budget."""
        capacity, window, beta = (int(self.arguments[name]) for name in ("max_capacity_prompt", "window_size", "beta"))
        ratio = self.arguments["compression_ratio"]
        if ratio is not None:
            return self._by_ratio(self.seen * (1 - float(ratio)), window, beta)
        mean = capacity - window
        if self.seen < capacity or self.seen < 2 * mean:
            return min(self.seen, capacity)
        low = mean // beta
        high = 2 * mean - low
        if high >= self.seen - window:
            high = self.seen - window
            low = 2 * mean - high
        return high - self.place.layer * ((high - low) // self._steps) + window

    def _by_ratio(self, mean: float, window: int, beta: int) -> int:
        """As kvpress divides a mean of this many tokens."""
        low = mean / beta
        high = 2 * mean - low
        if high >= self.seen - window:
            high, low = self.seen - window, 2 * mean - (self.seen - window)
        if not self.seen >= high >= low >= window:
            return max(1, round(mean))
        return round(high - self.place.layer * (high - low) / self._steps)

    @property
    def _steps(self) -> int:
        """Steps from the bottom layer to the top; of a single layer, one that it does not take."""
        return max(self.place.num_layers - 1, 1)


POLICY = PyramidKV
