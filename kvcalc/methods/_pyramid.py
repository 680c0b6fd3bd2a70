"""How PyramidKV divides a budget over layers: much at the bottom, little at the top."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.cache.slots.algebra import Expression
from kvcalc.cache.slots.primitives import PROMPT, AtMost, Floor, Switch
from kvcalc.cache.slots.rule import SlotRule


class Budget(NamedTuple):
    """The budget of all layers: max_capacity_prompt for each in the mean, window_size of it for the newest tokens.

    beta: the top layer keeps about 1 / beta of the mean beside its window.
    """

    num_layers: int
    max_capacity_prompt: int
    window_size: int
    beta: int

    @property
    def mean(self) -> int:
        """Tokens of a layer in the mean, beside the window."""
        return self.max_capacity_prompt - self.window_size

    @property
    def widest(self) -> int:
        """Tokens of the bottom layer, beside the window, where the prompt has as many."""
        return 2 * self.mean - self.mean // self.beta

    def kept(self, layer: int) -> Expression:
        """Tokens of a prompt from 2 * mean tokens on that a layer keeps.

        high - layer * floor((high - low) / (num_layers - 1)) + window, where high = min(widest, prompt - window) and
        low = 2 * mean - high.
        """
        high = AtMost(PROMPT - self.window_size, self.widest)
        step = Floor(high - self.mean, 2, max(self.num_layers - 1, 1))
        return high - layer * step + self.window_size


def pyramid(budget: Budget, layer: int) -> SlotRule:
    """What a layer keeps of a prompt of t tokens; nobody says where the prompt ends, so all are taken for it.

    t below max_capacity_prompt, that below 2 * mean, and then what `Budget.kept` says.
    """
    divided_from = max(2 * budget.mean, budget.max_capacity_prompt)
    alike = AtMost(PROMPT, budget.max_capacity_prompt)
    return SlotRule(
        Switch(divided_from, alike, budget.kept(layer)),
        f"layer {layer}'s share of {budget.max_capacity_prompt:,} per layer",
    )
