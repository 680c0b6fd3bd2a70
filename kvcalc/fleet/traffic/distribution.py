"""Blocks in use by independent users: a distribution, by convolution.

The blocks of one user at a random step are counted in integers: each request for each step that it generates, with the
blocks of the tokens written by then. N users hold the N-fold convolution. Small ones are exact, in integers; others are
in 64-bit floats by FFT, whose sums are off by less than ROUNDING, and a share that is this close to the requested one
counts as below it. Pools of more than half a million blocks are counted in steps of several blocks, rounded up for each
user.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from math import log
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDING = 1e-9
"""Error bound of the floats: 1e-16 for each of some thousand operations, with margin."""
_DECIMALS = 12
"""Digits of a share that are the same on every machine."""
_EXACT_BITS = 2_000_000
"""Largest integer product computed exactly."""
_MOST_USERS = 1 << 20
_MOST_PLACES = 1 << 19
"""Most distinct blocks; beyond that users are counted in steps of several blocks, rounded up."""
_NEARLY_ALL = 0.999999
_PERIODS = 4
"""Period of a spectrum, as a multiple of the blocks: what users hold beyond it wraps around."""
_LOST = log(1e-13)
_SILENT = log(1e-18)
_EXPONENTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Exponents tried in Chernoff's bound, for the maximum of one user."""
_KEPT = 8
"""Cached distributions."""


def steps_by_tokens(pairs: Sequence[tuple[int, int, int]], longest: int) -> dict[int, int]:
    """Number of steps by tokens written.

    pairs: prompt and output tokens with their counts. longest: tokens at which every request ends.
    """
    starts = [0] * (longest + 2)
    for prompt, output, weight in pairs:
        starts[prompt] += weight
        starts[min(prompt + output, longest)] -= weight
    found: dict[int, int] = {}
    steps = 0
    for tokens in range(1, longest + 1):
        steps += starts[tokens]
        if steps:
            found[tokens] = steps
    return found


class Blocks:
    """What one user holds, and from it what any number of them do.

    num_blocks: of the pool. step: multiple to which each user's blocks are rounded up, for very large pools.
    """

    def __init__(self, weights: Sequence[int], num_blocks: int) -> None:
        self.weights = tuple(weights)
        self.num_blocks = num_blocks
        self.total = sum(weights)
        self._known: dict[int, NDArray[np.float64]] = {}
        self.step = num_blocks // _MOST_PLACES + 1
        self._room = num_blocks // self.step
        self._floats: NDArray[np.float64] = np.zeros(min(self._room, -(-(len(self.weights) - 1) // self.step)) + 1)
        for blocks, weight in enumerate(self.weights[: num_blocks + 1]):
            place = -(-blocks // self.step)
            if weight and place <= self._room:
                self._floats[place] += weight / self.total

    @property
    def mean(self) -> Fraction:
        """Blocks that a user holds on average."""
        return Fraction(sum(blocks * weight for blocks, weight in enumerate(self.weights)), self.total)

    @property
    def most(self) -> int:
        """Most blocks that a user holds."""
        return len(self.weights) - 1

    def share_within(self, users: int, num_blocks: int | None = None) -> Fraction | float:
        """Share of the time that this number of users holds at most num_blocks: exact if small."""
        within = self.num_blocks if num_blocks is None else num_blocks
        if users * self.most <= within:
            return Fraction(1)
        if self._is_small(users):
            return exact_share(self.weights, users, within)
        place = within // self.step
        if users not in self._known and self._ends_in_time(users) and place <= self._room:
            found = self._sum_of_spectrum(users, place)
        else:
            found = float(self._of(users)[: place + 1].sum())
        return min(max(round(found, _DECIMALS), 0.0), 1 - ROUNDING)  # below 1, since it may be less

    def quantile(self, users: int, share: Fraction) -> int | None:
        """The fewest blocks that suffice for this share of the time; None if the pool is smaller."""
        return next(self.quantiles(users, (share,)))

    def quantiles(self, users: int, shares: Sequence[Fraction]) -> Iterator[int | None]:
        """The same for several shares in ascending order, in one pass."""
        if self._is_small(users):
            yield from exact_quantiles(self.weights, users, shares, self.num_blocks)
            return
        sums = np.cumsum(self._of(users))
        for share in shares:
            enough = np.nonzero(sums >= float(share) + ROUNDING)[0]
            if len(enough):
                yield int(enough[0]) * self.step
            else:
                yield self.num_blocks if users * self.most <= self.num_blocks else None

    def most_users(self, share: Fraction) -> int:
        """Users that fit in the pool for this share of the time.

        More users never hold less, so it is found by doubling steps from an estimate by mean and variance, then
        bisection.
        """
        least = next(blocks for blocks, weight in enumerate(self.weights) if weight)
        ceiling = min(_MOST_USERS, self.num_blocks // least if least else _MOST_USERS)
        low = high = min(ceiling, self.users_about(share))
        step = 1
        while low and not self._fits(low, share):
            low, high, step = max(0, low - step), low, 2 * step
        step = 1
        while high <= ceiling and (high == low or self._fits(high, share)):
            low, high, step = high, high + step, 2 * step
        high = min(high, ceiling + 1)
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits(middle, share):
                low = middle
            else:
                high = middle
        return low

    def users_about(self, share: Fraction) -> int:
        """Approximate number of users, by mean and variance."""
        mean = float(self.mean)
        squares = sum(blocks * blocks * weight for blocks, weight in enumerate(self.weights)) / self.total
        spread = NormalDist().inv_cdf(min(float(share), _NEARLY_ALL)) * max(0.0, squares - mean * mean) ** 0.5
        if not mean:
            return _MOST_USERS
        root = (-spread + (spread * spread + 4 * mean * self.num_blocks) ** 0.5) / (2 * mean)
        return int(max(0.0, root) ** 2)

    def _fits(self, users: int, share: Fraction) -> bool:
        found = self.share_within(users)
        return found >= share if isinstance(found, Fraction) else found >= float(share) + ROUNDING

    def _is_small(self, users: int) -> bool:
        return users * self.total.bit_length() * (users * self.most + 1) <= _EXACT_BITS

    def _of(self, users: int) -> NDArray[np.float64]:
        """Shares of the time at which users hold 0, 1 ... num_blocks; larger counts are left out."""
        if users not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[users] = self._by_spectrum(users) if self._ends_in_time(users) else self._by_doubling(users)
        return self._known[users]

    def _ends_in_time(self, users: int) -> bool:
        """Whether they hold less than the spectrum's period, except for a share of the time below rounding.

        By Chernoff's bound: E[exp(x * blocks)] ** users / exp(x * period), for some x.
        """
        return any(users * log_mean - x * self._period < _LOST for x, log_mean in self._log_means)

    @cached_property
    def _period(self) -> int:
        return 1 << (_PERIODS * (self._room + 1)).bit_length()

    @cached_property
    def _log_means(self) -> list[tuple[float, float]]:
        most = max(1, len(self._floats) - 1)
        blocks = np.arange(len(self._floats))
        return [(x / most, float(np.log(np.dot(self._floats, np.exp(x / most * blocks))))) for x in _EXPONENTS]

    @cached_property
    def _spectrum(self) -> NDArray[np.complex128]:
        return np.fft.rfft(self._floats, self._period)

    @cached_property
    def _loudness(self) -> NDArray[np.float64]:
        """Logarithms of the spectrum's magnitudes."""
        with np.errstate(divide="ignore"):
            found: NDArray[np.float64] = np.log(np.abs(self._spectrum))
        return found

    def _sum_of_spectrum(self, users: int, place: int) -> float:
        """Share of the time at or below a place, without the distribution itself.

        With F the spectrum of one user and G that of ones up to the place, it is the mean of F**users * conj(G)
        (Parseval). Of many users all but the lowest frequencies are silent: those below _SILENT add nothing.
        """
        heard = np.flatnonzero(self._loudness * users > _SILENT)
        powers = _power(self._spectrum[heard], users)
        turns = -2j * np.pi / self._period
        with np.errstate(divide="ignore", invalid="ignore"):
            ones = (1 - np.exp(turns * (heard * (place + 1) % self._period))) / (1 - np.exp(turns * heard))
        ones[heard == 0] = place + 1
        twice = np.where((heard == 0) | (2 * heard == self._period), 1, 2)
        return float(np.sum((powers * np.conj(ones)).real * twice)) / self._period

    def _by_spectrum(self, users: int) -> NDArray[np.float64]:
        """A power of the spectrum of one user."""
        found: NDArray[np.float64] = np.fft.irfft(_power(self._spectrum, users), self._period)[: self._room + 1]
        return np.maximum(found, 0.0)

    def _by_doubling(self, users: int) -> NDArray[np.float64]:
        """Convolution, cut at num_blocks."""
        found: NDArray[np.float64] | None = None
        power = self._floats
        while users:
            if users & 1:
                found = power if found is None else self._sum(found, power)
            users >>= 1
            if users:
                power = self._sum(power, power)
        assert found is not None
        return found

    def _sum(self, one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        length = len(one) + len(other) - 1
        size = 1 << (length - 1).bit_length()
        spectrum: NDArray[Any] = np.fft.rfft(one, size) * np.fft.rfft(other, size)
        found: NDArray[np.float64] = np.fft.irfft(spectrum, size)[: min(length, self._room + 1)]
        return np.maximum(found, 0.0)


def _power(numbers: NDArray[np.complex128], exponent: int) -> NDArray[np.complex128]:
    """By squaring, ten times as fast as numpy's own."""
    found = numbers.copy()
    for bit in f"{exponent:b}"[1:]:
        found *= found
        if bit == "1":
            found *= numbers
    return found


def exact_weights(weights: Sequence[int], users: int) -> list[int]:
    """Integer weights of what this number of users holds: one product of large integers (Kronecker substitution)."""
    wide = users * sum(weights).bit_length() // 8 + 1  # bytes for any of the weights
    packed = int.from_bytes(b"".join(weight.to_bytes(wide, "little") for weight in weights), "little")
    places = users * (len(weights) - 1) + 1
    whole = (packed**users).to_bytes(places * wide, "little")
    return [int.from_bytes(whole[place * wide : (place + 1) * wide], "little") for place in range(places)]


def exact_share(weights: Sequence[int], users: int, within: int) -> Fraction:
    """Share of the time that this number of users holds at most `within` blocks."""
    return Fraction(sum(exact_weights(weights, users)[: within + 1]), sum(weights) ** users)


def exact_quantiles(weights: Sequence[int], users: int, shares: Sequence[Fraction], most: int) -> Iterator[int | None]:
    """The fewest blocks that are enough for shares of the time, which ascend; None if it exceeds `most`."""
    whole = sum(weights) ** users
    sums = list(accumulate(exact_weights(weights, users)[: most + 1]))
    for share in shares:
        blocks = bisect_left(sums, share * whole)
        yield blocks if blocks < len(sums) else None
