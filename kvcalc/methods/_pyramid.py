"""How PyramidKV divides a budget over layers: much at the bottom, little at the top."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.slots.rule import Rule, Tokens, lower_of


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

    def kept(self, layer: int, prompt: Tokens) -> Tokens:
        """Tokens of a prompt from 2 * mean tokens on that a layer keeps.

        high - layer * floor((high - low) / (num_layers - 1)) + window, where high = min(widest, prompt - window) and
        low = 2 * mean - high.
        """
        high = lower_of(prompt - self.window_size, self.widest)
        step = 2 * (high - self.mean) // max(self.num_layers - 1, 1)
        return high - layer * step + self.window_size


class Pyramid(Rule):
    """What a layer keeps of a prompt of t tokens; nobody says where the prompt ends, so all are taken for it.

    t below max_capacity_prompt, that below 2 * mean, and then what `Budget.kept` says.
    """

    __slots__ = ("budget", "layer")
    takes_all_for_prompt = True

    def __init__(self, budget: Budget, layer: int) -> None:
        self.budget = budget
        self.layer = layer

    def slots(self, tokens: Tokens) -> Tokens:
        """Tokens kept."""
        flat = lower_of(tokens, self.budget.max_capacity_prompt)
        divided = (tokens >= self._divided_from) * (self.budget.kept(self.layer, tokens) - flat)
        return flat + divided

    def most(self, tokens: int) -> int:
        """As many as now, or before prompts were long enough to be divided, or as they just were."""
        so_far = (tokens, min(tokens, self._divided_from - 1), min(tokens, self._divided_from))
        return max(self.slots(count) for count in so_far)

    @property
    def _divided_from(self) -> int:
        """Shortest prompt that is not kept alike in all layers."""
        return max(2 * self.budget.mean, self.budget.max_capacity_prompt)

    @property
    def kinks(self) -> tuple[int, ...]:
        """Where the capacity is reached, where layers part, and where the bottom layer has all that it may."""
        budget, parted = self.budget, self._divided_from
        full = max(parted, budget.widest + budget.window_size)
        return tuple(sorted({budget.max_capacity_prompt, parted - 1, parted, full}))

    @property
    def period(self) -> int:
        """Layers less one, by which the steps between layers are rounded."""
        return max(self.budget.num_layers - 1, 1)

    @property
    def saturates_at(self) -> int | None:
        """Where the bottom layer has all that it may."""
        return self.kinks[-1]

    def __str__(self) -> str:
        return f"layer {self.layer}'s share of {self.budget.max_capacity_prompt:,} a layer"
