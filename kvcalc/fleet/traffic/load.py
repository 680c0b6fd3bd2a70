"""The load of a mix's users on a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd, isqrt

from kvcalc.fleet.traffic.distribution import Blocks, steps_by_tokens
from kvcalc.fleet.traffic.mix import Mix
from kvcalc.fleet.traffic.store import Store


@dataclass(frozen=True)
class Load:
    """Users of a mix, and the store they share. Shared prefixes are held once, all the time."""

    store: Store
    mix: Mix

    @property
    def longest(self) -> int:
        """Tokens at which every request ends, by the engine's limit or the workload's."""
        own = self.mix.workload.longest + 1
        return own if self.store.longest is None else min(own, self.store.longest)

    @cached_property
    def prefix_units(self) -> int:
        """Units of shared prefixes."""
        prefixes = self.mix.prefixes
        return prefixes.each * sum(self.store.shared(tokens) for tokens, _ in prefixes.groups if tokens)

    @cached_property
    def weights(self) -> tuple[int, ...]:
        """Weights of a user's units at a random step, excluding its prefix."""
        steps = steps_by_tokens(self.mix.workload.pairs, self.longest)
        found: dict[int, int] = {}
        for tokens, weight in self.mix.prefixes.groups:
            common = self.store.shared(tokens) if tokens else 0
            for units, times in self._held(steps, common).items():
                found[units] = found.get(units, 0) + weight * times
        divisor = gcd(*found.values())
        return tuple(found.get(units, 0) // divisor for units in range(max(found) + 1))

    def _held(self, steps: Mapping[int, int], common: int) -> dict[int, int]:
        """Weights of the units of a user in one group: at each step of its requests, and between requests."""
        active, pairs = self.mix.active, self.mix.workload.pairs
        idle = active.denominator - active.numerator
        requests = sum(weight for _, _, weight in pairs)
        found: dict[int, int] = {}
        for tokens, times in steps.items():
            units = self.store.held(tokens) - common
            found[units] = found.get(units, 0) + times * active.numerator * requests
        if idle:
            each = sum(steps.values()) * idle
            for prompt, output, weight in pairs:
                units = max(0, self.store.kept(prompt, min(prompt + output, self.longest) - 1) - common)
                found[units] = found.get(units, 0) + weight * each
        return found

    @cached_property
    def units(self) -> Blocks:
        """The distribution of users over the units that prefixes leave."""
        return Blocks(self.weights, max(0, self.store.num_units - self.prefix_units))

    @property
    def users_at_most(self) -> int:
        """Users if each always held the maximum."""
        return self.units.num_blocks // max(1, self.units.most)

    @property
    def users_at_mean(self) -> int:
        """Users if each request were as long as the mean."""
        return self.units.num_blocks // max(1, self.held_at_mean)

    @property
    def held_at_mean(self) -> int:
        """Units of a request as long as the mean, those of its prefix aside."""
        prefixes = self.mix.prefixes
        common = sum(weight * self.store.shared(tokens) for tokens, weight in prefixes.groups if tokens)
        return self.store.held(round(self.mix.workload.mean_tokens)) - common // prefixes.total

    @property
    def has_room(self) -> bool:
        """Whether prefixes leave any units."""
        return self.store.num_units > self.prefix_units

    @cached_property
    def users(self) -> int:
        """Users that fit for the quantile of the time."""
        return self.units.most_users(self.mix.quantile) if self.has_room else 0

    @property
    def users_about(self) -> int:
        """Approximation of the same, by mean and variance."""
        return self.units.users_about(self.mix.quantile) if self.has_room else 0

    def share(self, users: int) -> float:
        """Share of the time that this number of users fits."""
        return float(self.units.share_within(users)) if self.has_room else 0.0

    def needed(self, users: int) -> int:
        """Units that suffice for this number of users for the quantile of the time, regardless of the pool."""
        return self.quantiles(users, [self.mix.quantile])[0]

    def quantiles(self, users: int, shares: Sequence[Fraction]) -> list[int]:
        """Units that suffice for these users and their prefixes for each share of the time, of any pool."""
        blocks = Blocks(self.weights, self._enough(users, max(shares)))
        found = [blocks.quantile(users, share) if share < 1 else None for share in shares]
        return [self.prefix_units + (blocks.num_blocks if each is None else each) for each in found]

    def rounded_to(self, users: int, share: Fraction) -> int:
        """Units to which what each user holds is rounded up there."""
        return Blocks(self.weights, self._enough(users, share)).step

    def _enough(self, users: int, share: Fraction) -> int:
        """Units that are enough for so large a share of the time, and not many more."""
        most = users * self.units.most
        return min(most, self._bound(users, share)) if share < 1 else most

    def _bound(self, users: int, share: Fraction) -> int:
        """Units that suffice by only mean and variance (Cantelli's inequality)."""
        one = self.units
        squares = Fraction(sum(units * units * weight for units, weight in enumerate(self.weights)), one.total)
        spread = users * (squares - one.mean**2) * share / (1 - share)
        return int(users * one.mean) + isqrt(int(spread) + 1) + 2
