"""How many users a pool holds for most of the time, and what they hold."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, in_version
from kvcalc.report.versions import named
from kvcalc.units import count, gibibytes, plural


class Use(NamedTuple):
    """One of the stores that users share: what one holds on average and before its first token, and how many it holds.

    unit_bytes: of a unit; 0 where it takes no memory, such as requests that may run at a time.
    """

    name: str
    num_units: int
    unit_bytes: int
    mean: Fraction
    first: int
    users: int

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {**self._asdict(), "mean": float(self.mean)}


class Balance(NamedTuple):
    """States and tokens of one memory with which most users fit. setting: of the engine, that makes it so."""

    states: int
    tokens: int
    users: int
    setting: tuple[str, float] | None

    @property
    def words(self) -> str:
        """How many users, with which setting."""
        named = "" if self.setting is None else f"; {self.setting[0]}={self.setting[1]:g}"
        return f"{plural(self.users, 'user')} with {count(self.states)} states and {count(self.tokens)} tokens{named}"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        setting: dict[str, Json] = {} if self.setting is None else {self.setting[0]: self.setting[1]}
        return {"states": self.states, "tokens": self.tokens, "users": self.users, "setting": setting}


class TrafficReport(NamedTuple):
    """Users at which nothing is preempted for a share of the time, and the blocks that they hold.

    workload: how long requests are, in words. unit: what requests get, a block, a page, a token. num_blocks: of these,
    that there are, block_bytes of each; first_blocks: that a request holds with its first token. prefix_blocks: what
    shared prefixes hold. next_share: how much of the time one user more would fit. mean_blocks, most_blocks,
    user_blocks: of one user, its prefix aside. all_blocks: of all of them, by quantiles, theirs and the prefixes'
    apart; None where the pool is smaller. users_at_most, users_at_mean: if each request were as long as the longest, or
    as the mean. uses: every store that limits users, the one that grows with tokens first. balance: of states and
    tokens, where they have pools of their own.
    """

    model: str
    engine: str
    engine_version: str
    workload: tuple[tuple[str, str], ...]
    quantile: Fraction
    unit: str
    num_blocks: int
    block_bytes: int
    prefix_blocks: int
    users: int
    next_share: float | None
    mean_blocks: Fraction
    most_blocks: int
    first_blocks: int
    mean_tokens: Fraction
    user_blocks: tuple[tuple[str, int], ...]
    all_blocks: tuple[tuple[str, int | None], ...]
    users_at_most: int
    users_at_mean: int
    uses: tuple[Use, ...]
    notes: tuple[str, ...] = ()
    balance: Balance | None = None

    @property
    def expected_blocks(self) -> Fraction:
        """Blocks that all users hold on average, with shared prefixes."""
        return self.users * self.mean_blocks + self.prefix_blocks

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("traffic"),
            "model": self.model,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "workload": dict(self.workload),
            "quantile": float(self.quantile),
            "unit": self.unit,
            "num_blocks": self.num_blocks,
            "block_bytes": self.block_bytes,
            "prefix_blocks": self.prefix_blocks,
            "users": self.users,
            "share_of_one_more": self.next_share,
            "mean_blocks": float(self.mean_blocks),
            "most_blocks": self.most_blocks,
            "first_blocks": self.first_blocks,
            "mean_tokens": float(self.mean_tokens),
            "user_blocks": dict(self.user_blocks),
            "all_blocks": dict(self.all_blocks),
            "expected_blocks": float(self.expected_blocks),
            "expected_bytes": float(self.expected_blocks * self.block_bytes),
            "users_at_most": self.users_at_most,
            "users_at_mean": self.users_at_mean,
            "uses": [use.to_dict() for use in self.uses],
            **({"balance": self.balance.to_dict()} if self.balance else {}),
            "notes": list(self.notes),
        }

    def sheets(self) -> tuple[Sheet, ...]:
        """Blocks of a user and of all of them."""
        columns = (
            Column("quantile"),
            Column(f"{self.unit}s a user", "count"),
            Column(f"{self.unit}s of all", "count"),
            Column("bytes of all", "bytes"),
        )
        rows: list[tuple[Cell, ...]] = [
            (name, each, *self._all(whole))
            for (name, each), (_, whole) in zip(self.user_blocks, self.all_blocks, strict=True)
        ]
        title = f"{self.model} in {in_version(self.engine, self.engine_version)}: users of different lengths"
        asked = (("model", self.model), ("engine", self.engine), ("engine_version", self.engine_version))
        first = Sheet(title, columns, tuple(rows), tuple(self._lines()), self.notes, asked=asked, label_width=17)
        return (first, self._uses()) if self._limits else (first,)

    @property
    def _limits(self) -> tuple[Use, ...]:
        """Other stores than that of tokens, where one has memory of its own or lets fewer users run."""
        others = self.uses[1:]
        return others if any(use.unit_bytes or use.users < self.uses[0].users for use in others) else ()

    def _uses(self) -> Sheet:
        columns = (
            Column("pool"),
            Column("units", "count"),
            Column("bytes", "bytes"),
            Column("a user", "ratio"),
            Column("at its first token", "count"),
            Column("users", "count"),
        )
        rows = tuple(
            (use.name, use.num_units, use.num_units * use.unit_bytes or None, float(use.mean), use.first, use.users)
            for use in (self.uses[0], *self._limits)
        )
        lines = () if self.balance is None else (Line("balanced", self.balance.words, "answer"),)
        return Sheet("What each pool holds", columns, rows, lines)

    def _all(self, whole: int | None) -> tuple[int | None, int | None]:
        if whole is None:
            return None, None
        blocks = whole + self.prefix_blocks
        return blocks, blocks * self.block_bytes

    def _lines(self) -> list[Line]:
        share = f"{100 * float(self.quantile):g}%"
        lines = [Line("users", f"{count(self.users)}: nothing is preempted {share} of the time", "answer")]
        if self.next_share is not None:
            lines.append(Line("one more", f"{100 * self.next_share:.2f}% of the time"))
        lines += [
            Line("all at maximum", plural(self.users_at_most, "user")),
            Line("all at the mean", plural(self.users_at_mean, "user")),
            *(Line(name, words) for name, words in self.workload),
            Line("expected", self._expected()),
        ]
        if self.first_blocks > 1:
            lines.append(Line("first token", f"{plural(self.first_blocks, self.unit)}, whatever the length"))
        if self.prefix_blocks:
            lines.append(Line("prefixes", f"{plural(self.prefix_blocks, self.unit)}, held once"))
        return lines

    def _expected(self) -> str:
        held_bytes = int(self.expected_blocks * self.block_bytes)
        blocks = f"{float(self.expected_blocks):,.1f} of {plural(self.num_blocks, self.unit)}"
        return f"{blocks} ({gibibytes(held_bytes)}), {float(self.mean_blocks):,.1f} a user"
