"""Users that a pool holds for a share of the time, and their memory."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Table, in_version
from kvcalc.report.versions import named
from kvcalc.units import count, gibibytes, plural, short_share

if TYPE_CHECKING:
    from kvcalc.report.chart import Curves


class Use(NamedTuple):
    """A store shared by users: average and initial units per user, and its number of users.

    unit_bytes: of a unit; 0 for limits without memory, such as concurrent requests.
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
    """The split of memory into states and tokens for the most users. setting: of the engine, to get it."""

    states: int
    tokens: int
    users: int
    setting: tuple[str, float] | None

    @property
    def words(self) -> str:
        """The users and the setting."""
        named = "" if self.setting is None else f"; {self.setting[0]}={self.setting[1]:g}"
        return f"{plural(self.users, 'user')} with {count(self.states)} states and {count(self.tokens)} tokens{named}"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        setting: dict[str, Json] = {} if self.setting is None else {self.setting[0]: self.setting[1]}
        return {"states": self.states, "tokens": self.tokens, "users": self.users, "setting": setting}


class ByUsers(NamedTuple):
    """What this many users hold, including prefixes: for the quantile of the time, None if it exceeds the pool.

    at_mean, at_most: if each request were as long as the mean, or held all the time what one holds at most.
    """

    users: int
    blocks: int | None
    at_mean: int
    at_most: int


class TrafficReport(NamedTuple):
    """Users that fit without preemption for a share of the time, and the blocks they hold.

    workload: lengths of requests, in words. unit: of allocation: a block, a page or a token. num_blocks: number of
    units, of block_bytes each; first_blocks: of a request with its first token. prefix_blocks: of shared prefixes.
    next_share: share of the time that one more user would fit. mean_blocks, most_blocks, user_blocks: of one user
    without its prefix. all_blocks: of all users, by quantile, without and with prefixes; None if the pool is smaller.
    expected_tokens, held_tokens: that all users and their prefixes hold, on average and by quantile; user_tokens: one.
    users_at_most, users_at_mean: if every request had the maximum or mean length. uses: every store that limits users,
    the one that grows with tokens first. balance: of states and tokens, if they have separate pools. distribution:
    blocks that all of them hold, prefixes and all, for which share of the time they are enough. by_users: what other
    numbers of users hold.
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
    expected_tokens: Fraction
    user_tokens: tuple[tuple[str, int], ...]
    held_tokens: tuple[tuple[str, int], ...]
    users_at_most: int
    users_at_mean: int
    uses: tuple[Use, ...]
    notes: tuple[str, ...] = ()
    balance: Balance | None = None
    distribution: tuple[tuple[Fraction, int], ...] = ()
    by_users: tuple[ByUsers, ...] = ()

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
            "expected_tokens": float(self.expected_tokens),
            "user_tokens": dict(self.user_tokens),
            "held_blocks": {name: self._all(whole)[0] for name, whole in self.all_blocks},
            "held_tokens": dict(self.held_tokens),
            "held_bytes": {name: self._all(whole)[1] for name, whole in self.all_blocks},
            "users_at_most": self.users_at_most,
            "users_at_mean": self.users_at_mean,
            "uses": [use.to_dict() for use in self.uses],
            **({"balance": self.balance.to_dict()} if self.balance else {}),
            "distribution": [{"share": float(share), "blocks": blocks} for share, blocks in self.distribution],
            "by_users": [each._asdict() for each in self.by_users],
            "notes": list(self.notes),
        }

    def charts(self) -> tuple[Curves, ...]:
        """Blocks by users, next to what one length would say; and how much of the time the users hold how many."""
        return (*([self._by_users()] if self.by_users else []), *([self._distributed()] if self.distribution else []))

    def _by_users(self) -> Curves:
        from kvcalc.report.chart import Axis, Curves, Level, Series

        lines = (
            ("all at the maximum", self.users_at_most, [each.at_most for each in self.by_users]),
            (f"{short_share(float(self.quantile))} of the time", self.users, [each.blocks for each in self.by_users]),
            ("all at the mean", self.users_at_mean, [each.at_mean for each in self.by_users]),
        )
        series = tuple(Series(label, self._that_fit(held), (most,)) for label, most, held in lines)
        x, y = Axis("users", "users"), Axis(f"{self.unit}s held", f"{self.unit}s")
        shown = tuple(each for each in series if each.points)
        title = f"{self._title}, {self.unit}s by users"
        pool = (Level("the pool", self.num_blocks),)
        return Curves(title, x, y, shown, pool, (self._limited, *self.notes), marked="the most that fit")

    def _that_fit(self, held: Sequence[int | None]) -> tuple[tuple[int, int], ...]:
        """What numbers of users hold, up to the pool; if not even one fits, what one would hold."""
        each = zip(self.by_users, held, strict=True)
        known = tuple((row.users, blocks) for row, blocks in each if blocks is not None)
        return tuple(point for point in known if point[1] <= self.num_blocks) or known[:1]

    @property
    def _limited(self) -> str:
        """The answer, and which pool gives it."""
        last = min(self.uses, key=lambda use: use.users, default=None)
        by = "" if last is None or last is self.uses[0] else f", limited by {last.name}"
        return f"{plural(self.users, 'user')} for {short_share(float(self.quantile))} of the time{by}"

    def _distributed(self) -> Curves:
        from kvcalc.report.chart import SHARE, Axis, Curves, Level, Series

        points = tuple((float(share), blocks) for share, blocks in self.distribution)
        line = Series(plural(self.users, "user"), points)
        x = Axis("share of the time", SHARE, log=False)
        y = Axis(f"{self.unit}s held at most", f"{self.unit}s", log=False)
        title = f"{self._title}, {self.unit}s of {plural(self.users, 'user')}"
        return Curves(title, x, y, (line,), (Level("the pool", self.num_blocks),))

    @property
    def _title(self) -> str:
        return f"{self.model} in {in_version(self.engine, self.engine_version)}"

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def table(self) -> Table:
        """One row for each quantile, by names that do not depend on the unit."""
        asked: dict[str, Cell] = {"model": self.model, "engine": self.engine, "engine_version": self.engine_version}
        pool: dict[str, Cell] = {
            "users": self.users,
            "unit": self.unit,
            "num_blocks": self.num_blocks,
            "block_bytes": self.block_bytes,
        }
        rows = zip(self.user_blocks, self.all_blocks, strict=True)
        return Table.of(
            {**asked, **pool, "quantile": name, "user_blocks": each}
            | dict(zip(("all_blocks", "all_bytes"), self._all(whole), strict=True))
            for (name, each), (_, whole) in rows
        )

    def sheets(self) -> tuple[Sheet, ...]:
        """Blocks of a user and of all of them."""
        columns = (
            Column("quantile"),
            Column(f"{self.unit}s a user", "count"),
            *((Column("tokens a user", "count", wide=True),) if self._rounds else ()),
            Column(f"{self.unit}s of all", "count"),
            *((Column("tokens of all", "count"),) if self._rounds else ()),
            Column("bytes of all", "bytes"),
        )
        rows: list[tuple[Cell, ...]] = []
        user_tokens, held_tokens = dict(self.user_tokens), dict(self.held_tokens)
        for (name, each), (_, whole) in zip(self.user_blocks, self.all_blocks, strict=True):
            blocks, held_bytes = self._all(whole)
            if self._rounds:
                rows.append((name, each, user_tokens[name], blocks, held_tokens[name], held_bytes))
            else:
                rows.append((name, each, blocks, held_bytes))
        title = f"{self._title}: users of different lengths"
        asked = (("model", self.model), ("engine", self.engine), ("engine_version", self.engine_version))
        first = Sheet(title, columns, tuple(rows), tuple(self._lines()), self.notes, asked=asked, label_width=17)
        return (first, self._uses()) if self._limits else (first,)

    @property
    def _rounds(self) -> bool:
        """Whether what is allocated is larger than a token."""
        return self.unit != "token"

    @property
    def _limits(self) -> tuple[Use, ...]:
        """Stores other than the one for tokens, if one has its own memory or admits fewer users."""
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
        lines = [Line("users", f"{count(self.users)}: no preemption {share} of the time", "answer")]
        if self.next_share is not None:
            lines.append(Line("one more", f"{100 * self.next_share:.2f}% of the time"))
        lines += [
            Line("all at maximum", plural(self.users_at_most, "user")),
            Line("all at the mean", plural(self.users_at_mean, "user")),
            *(Line(name, words) for name, words in self.workload),
            Line("expected", self._expected()),
        ]
        if self.first_blocks > 1:
            lines.append(Line("first token", f"{plural(self.first_blocks, self.unit)}, at any length"))
        if self.prefix_blocks:
            lines.append(Line("prefixes", f"{plural(self.prefix_blocks, self.unit)}, held once"))
        return lines

    def _expected(self) -> str:
        held_bytes = int(self.expected_blocks * self.block_bytes)
        blocks = f"{float(self.expected_blocks):,.1f} of {plural(self.num_blocks, self.unit)}"
        if not self._rounds:
            return f"{blocks} ({gibibytes(held_bytes)}), {float(self.mean_blocks):,.1f} a user"
        of_tokens = f"{float(self.expected_tokens):,.1f} tokens, {float(self.mean_blocks):,.1f} {self.unit}s a user"
        return f"{blocks} ({gibibytes(held_bytes)}) for {of_tokens}"
