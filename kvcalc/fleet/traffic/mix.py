"""Behaviour of users: requests of a workload, shared prefixes, and idle time."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from kvcalc.errors import InvalidValueError
from kvcalc.fleet.traffic.workload import Workload
from kvcalc.units import count, plural, shown


class Prefixes(NamedTuple):
    """Groups of users with a shared prefix: tokens of the prefix, 0 for none, and the weight of users.

    each: number of different prefixes per length, with equal numbers of users.
    """

    groups: tuple[tuple[int, int], ...] = ((0, 1),)
    each: int = 1

    @property
    def total(self) -> int:
        """All weights."""
        return sum(weight for _, weight in self.groups)

    @property
    def longest(self) -> int:
        """Tokens of the longest."""
        return max(tokens for tokens, _ in self.groups)

    @property
    def words(self) -> str:
        """A description; empty without prefixes."""
        parts = []
        for tokens, weight in self.groups:
            share = f"{100 * weight / self.total:g}% " if len(self.groups) > 1 else ""
            parts.append(f"{share}{plural(tokens, 'token')}" if tokens else f"{share}none")
        return f"{', '.join(parts)}{f', {count(self.each)} different' if self.each > 1 else ''}" if self.longest else ""


class Mix(NamedTuple):
    """Requests, and what else decides the users' memory.

    quantile: required share of the time without preemption. active: share of the time that a user's request runs;
    otherwise its session is idle and stays cached.
    """

    workload: Workload
    quantile: Fraction = Fraction(99, 100)
    prefixes: Prefixes = Prefixes()
    active: Fraction = Fraction(1)

    @property
    def described(self) -> tuple[tuple[str, str], ...]:
        """A description by part."""
        found = self.workload.described
        if self.prefixes.longest:
            found = (*found, ("prefix", self.prefixes.words))
        if self.active < 1:
            found = (*found, ("active", f"{100 * float(self.active):g}% of the time, else idle and cached"))
        return found

    def check(self, longest: int | None) -> None:
        """Raises InvalidValueError for prompts that the engine refuses, or that do not fit their prefix."""
        prompts = [prompt for prompt, _, _ in self.workload.pairs]
        if longest is not None and max(prompts) >= longest:
            raise InvalidValueError(
                f"a prompt of {shown(max(prompts))} tokens is not shorter than max_model_len ({longest:,})",
                field="prompt",
                help="shorten it, or raise max_model_len",
            )
        if min(prompts) <= self.prefixes.longest:
            raise InvalidValueError(
                f"a prompt of {shown(min(prompts))} tokens is not longer than its shared prefix of "
                f"{shown(self.prefixes.longest)}",
                field="shared_prefix",
                help="include the prefix in the prompt's tokens",
            )
