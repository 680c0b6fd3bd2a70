"""How PyramidKV divides a budget over layers: much at the bottom, little at the top."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.cache.slots.algebra import Expression
from kvcalc.cache.slots.primitives import PROMPT, AtMost, Floor, Switch
from kvcalc.cache.slots.rule import SlotRule


class Budget(NamedTuple):
    """The budget of all layers: max_capacity_prompt per layer on average, including window_size for the newest tokens.

    beta: the top layer keeps about 1 / beta of the mean, plus its window.
    """

    num_layers: int
    max_capacity_prompt: int
    window_size: int
    beta: int

    @property
    def mean(self) -> int:
        """Mean tokens of a layer, without the window."""
        return self.max_capacity_prompt - self.window_size

    @property
    def widest(self) -> int:
        """Tokens of the bottom layer, without the window, if the prompt has as many."""
        return 2 * self.mean - self.mean // self.beta

    def kept(self, layer: int) -> Expression:
        """Tokens that a layer keeps of a prompt of at least 2 * mean tokens.

        high - layer * floor((high - low) / (num_layers - 1)) + window, where high = min(widest, prompt - window) and
        low = 2 * mean - high.
        """
        high = AtMost(PROMPT - self.window_size, self.widest)
        step = Floor(high - self.mean, 2, max(self.num_layers - 1, 1))
        return high - layer * step + self.window_size


def pyramid(budget: Budget, layer: int) -> SlotRule:
    """What a layer keeps of t tokens, assuming all of them are prompt.

    t below max_capacity_prompt, max_capacity_prompt below 2 * mean, and then `Budget.kept`.
    """
    divided_from = max(2 * budget.mean, budget.max_capacity_prompt)
    alike = AtMost(PROMPT, budget.max_capacity_prompt)
    return SlotRule(
        Switch(divided_from, alike, budget.kept(layer)),
        f"layer {layer}'s share of {budget.max_capacity_prompt:,} per layer",
    )
