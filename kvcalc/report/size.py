"""The size of one model's cache under one workload in one engine."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Table, in_version, plain
from kvcalc.report.tiers import NodeTier, tier_charts, tier_lines
from kvcalc.report.versions import named
from kvcalc.units import both_units, count, plural

if TYPE_CHECKING:
    from kvcalc.report.chart import Bars


class TensorReport(NamedTuple):
    """One tensor of a group. `slots` are those of one layer and sequence; `bytes` is the group's, all sequences.

    element_cost: bytes of `dtype` in words, such as `2 bytes` or `34 bytes for 32`.
    saturates_at: tokens from which no further slot is used; 0 for a state, None if every token uses one.
    storage_bytes: memory behind it, if an engine keeps more than the tensor's view.
    """

    name: str
    dims: tuple[tuple[str, int], ...]
    dtype: str
    element_cost: str
    slots: int
    slot_rule: str
    bytes_per_slot: int
    bytes: int
    saturates_at: int | None = None
    storage_bytes: int = 0

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "name": self.name,
            "dims": dict(self.dims),
            "dtype": self.dtype,
            "slots": self.slots,
            "slot_rule": self.slot_rule,
            "saturates_at": self.saturates_at,
            "bytes_per_slot": self.bytes_per_slot,
            "bytes": self.bytes,
            "storage_bytes": self.storage_bytes,
        }


class GroupReport(NamedTuple):
    """One group of equal layers. `bytes` is that of all its layers and all sequences."""

    name: str
    attention: str
    layers: tuple[int, ...]
    tensors: tuple[TensorReport, ...]
    origins: tuple[tuple[str, Cell, object], ...] = ()

    @property
    def num_layers(self) -> int:
        """Layers of the group."""
        return len(self.layers)

    @property
    def bytes(self) -> int:
        """Sum over the tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "name": self.name,
            "attention": self.attention,
            "num_layers": self.num_layers,
            "layers": list(self.layers),
            "bytes": self.bytes,
            "tensors": [tensor.to_dict() for tensor in self.tensors],
        }


class RankReport(NamedTuple):
    """The share of one rank: its groups, with layer indices of the whole model."""

    rank: int
    tp_rank: int
    pp_rank: int
    dp_rank: int
    sequences: int
    groups: tuple[GroupReport, ...]

    @property
    def bytes(self) -> int:
        """Sum over the groups."""
        return sum(group.bytes for group in self.groups)

    @property
    def layers(self) -> tuple[int, int]:
        """First and last layer."""
        layers = [layer for group in self.groups for layer in group.layers]
        return min(layers), max(layers)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "rank": self.rank,
            "tp_rank": self.tp_rank,
            "pp_rank": self.pp_rank,
            "dp_rank": self.dp_rank,
            "layers": list(self.layers),
            "sequences": self.sequences,
            "bytes": self.bytes,
            "tensors": {f"{group.name}.{t.name}": t.bytes for group in self.groups for t in group.tensors},
        }


class Report(NamedTuple):
    """Size of one model's cache under one workload in one engine. Every number is an exact int, in bytes.

    next_token_bytes: what the next token adds to one sequence at this length: a whole block, nothing, or a negative
    number if it lets pending tokens be compressed.
    growth: bytes that one sequence grows by at this length, and in how many tokens; bytes_per_token is the ratio.
    later_growth: the same for each later length at which a window fills.
    fixed_bytes_per_sequence: bytes of one sequence before its first token.
    shares_context: whether all sequences share one context of `tokens`; growth then refers to that context.
    prefill_peak_bytes: peak of the cache during prefill if a method cuts the prompt; otherwise None.
    score_workspace_bytes: scores that the method selects by, during prefill only.
    copies: of each sequence in the engine, one per beam in beam search.
    policy: the engine's active policy, in words; other_policies: results of others, if different.
    parallel: layout of the ranks, in words; dcp: number of ranks that divide the tokens; per_rank: the share of each
    rank. Everything else is the whole model's. engine_version: version whose rules apply, if the engine has versions.
    tiers: caches that the engine keeps off its devices, on each node.
    """

    model: str
    tokens: int
    sequences: int
    kv_dtype: str
    engine: str
    engine_settings: tuple[tuple[str, Json], ...]
    next_token_bytes: int
    growth: tuple[int, int]
    later_growth: tuple[tuple[int, int], ...]
    fixed_bytes_per_sequence: int
    groups: tuple[GroupReport, ...]
    model_type: str = ""
    source: str = ""
    num_layers_origin: object = ""
    policy: str = ""
    other_policies: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    prefill_peak_bytes: int | None = None
    score_workspace_bytes: int = 0
    parallel: str = ""
    per_rank: tuple[RankReport, ...] = ()
    dcp: int = 1
    shares_context: bool = False
    copies: int = 1
    engine_version: str = ""
    tiers: tuple[NodeTier, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Bytes of all layers and sequences."""
        return sum(group.bytes for group in self.groups)

    @property
    def bytes_per_token(self) -> int:
        """Bytes that a token adds to one sequence from this length on; rounded up if several share a slot or block."""
        return -(-self.growth[0] // self.growth[1])

    @property
    def bytes_per_sequence(self) -> int:
        """Bytes of one sequence."""
        return self.total_bytes // self.sequences

    @property
    def num_layers(self) -> int:
        """Layers of the model."""
        return sum(group.num_layers for group in self.groups)

    @property
    def engine_words(self) -> str:
        """The engine and its version."""
        return f"{in_version(self.engine, self.engine_version)} engine"

    @property
    def storage_bytes(self) -> int:
        """Memory behind the tensors, if an engine keeps more than the tensors' views."""
        return sum(tensor.storage_bytes for tensor in self._tensors())

    @property
    def rank_bytes_sum(self) -> int:
        """Bytes of all ranks: more than the total if ranks hold copies."""
        return sum(rank.bytes for rank in self.per_rank)

    @property
    def most_rank_bytes(self) -> int:
        """Bytes of the largest rank."""
        return max(rank.bytes for rank in self.per_rank)

    @property
    def saturated_bytes_per_sequence(self) -> int:
        """Bytes of tensors that grew and are full at this length."""
        return self._bytes_where(lambda ends: 0 < ends <= self.tokens)

    @property
    def growing_bytes_per_sequence(self) -> int:
        """Bytes of tensors that still grow."""
        return self.bytes_per_sequence - self._bytes_where(lambda ends: ends <= self.tokens)

    def _bytes_where(self, holds: Callable[[int], bool]) -> int:
        ends = ((tensor, tensor.saturates_at) for tensor in self._tensors())
        return sum(tensor.bytes for tensor, end in ends if end is not None and holds(end)) // self.sequences

    def _tensors(self) -> Iterator[TensorReport]:
        return (tensor for group in self.groups for tensor in group.tensors)

    def to_dict(self) -> dict[str, Json]:
        """Plain values, as `--format json` prints them."""
        return {
            **named("size"),
            "model": self.model,
            "workload": {"tokens": self.tokens, "sequences": self.sequences, "kv_dtype": self.kv_dtype},
            "engine": self.engine,
            **({"engine_version": self.engine_version} if self.engine_version else {}),
            "engine_settings": plain(dict(self.engine_settings)),
            "total_bytes": self.total_bytes,
            "bytes_per_sequence": self.bytes_per_sequence,
            "storage_bytes": self.storage_bytes,
            "bytes_per_token": self.bytes_per_token,
            "next_token_bytes": self.next_token_bytes,
            "growth": _growth_data(self.growth),
            "later_growth": [
                {"from_tokens": tokens, **_growth_data((bytes_, self.growth[1]))}
                for tokens, bytes_ in self.later_growth
            ],
            "fixed_bytes_per_sequence": self.fixed_bytes_per_sequence,
            "saturated_bytes_per_sequence": self.saturated_bytes_per_sequence,
            "growing_bytes_per_sequence": self.growing_bytes_per_sequence,
            "policy": self.policy,
            "other_policies": dict(self.other_policies),
            "notes": list(self.notes),
            "model_type": self.model_type,
            "source": self.source,
            "groups": [group.to_dict() for group in self.groups],
            **({"shares_context": True} if self.shares_context else {}),
            **({"copies": self.copies} if self.copies > 1 else {}),
            **({} if self.prefill_peak_bytes is None else self._prefill_data()),
            **(self._ranks_data() if self.per_rank else {}),
            **({"tiers": [tier.to_dict() for tier in self.tiers]} if self.tiers else {}),
        }

    def _prefill_data(self) -> dict[str, Json]:
        return {"prefill_peak_bytes": self.prefill_peak_bytes, "score_workspace_bytes": self.score_workspace_bytes}

    def _ranks_data(self) -> dict[str, Json]:
        last = self.per_rank[-1]
        degrees = {"tp": last.tp_rank + 1, "pp": last.pp_rank + 1, "dp": last.dp_rank + 1}
        return {
            "parallel": degrees | ({"dcp": self.dcp} if self.dcp > 1 else {}),
            "rank_bytes_sum": self.rank_bytes_sum,
            "per_rank": [rank.to_dict() for rank in self.per_rank],
        }

    def heading(self) -> str:
        """The question, as one line."""
        between = "for" if self.shares_context else "x"
        workload = f"{plural(self.tokens, 'token')} {between} {plural(self.sequences, 'sequence')}"
        return ", ".join(filter(None, (self.model, workload, self.kv_dtype, self.engine_words, self.parallel)))

    def summary(self) -> tuple[Line, ...]:
        """The answer: total, per sequence, and the parts that grow, are full, or never change; then tiers."""
        return (*self._of_device(), *tier_lines(self.tiers))

    def _of_device(self) -> tuple[Line, ...]:
        lines = [Line("total", both_units(self.total_bytes), "answer")]
        if self.storage_bytes != self.total_bytes:
            lines.append(Line("in memory", both_units(self.storage_bytes)))
        if self.prefill_peak_bytes is not None:
            lines.append(Line("in prefill", f"{both_units(self.prefill_peak_bytes)} at most"))
        if self.score_workspace_bytes:
            lines.append(Line("scores", f"{both_units(self.score_workspace_bytes)} extra, during prefill only"))
        if self.sequences > 1 and not self.shares_context:
            lines.append(Line("per sequence", both_units(self.bytes_per_sequence)))
        lines += self._rank_lines()
        if self.shares_context:
            return (*lines, *self._context_lines())
        growing, saturated = self.growing_bytes_per_sequence, self.saturated_bytes_per_sequence
        fixed = self.bytes_per_sequence - growing - saturated
        in_steps = self.growth[0] != self.next_token_bytes * self.growth[1]
        if not (saturated or fixed or self.later_growth or in_steps):
            return (*lines, Line("each token", f"{both_units(self.bytes_per_token)} for each sequence"))
        each = " for each sequence" if self.sequences > 1 else ""
        if growing:
            lines.append(Line("growing", f"{both_units(growing)}{each}, {self._growth_words()}"))
        if saturated:
            lines.append(
                Line("saturated", f"{both_units(saturated)}{each}, full from {count(self._full_from())} tokens")
            )
        if fixed:
            lines.append(Line("fixed", f"{both_units(fixed)}{each}, at any length"))
        return tuple(lines)

    def _context_lines(self) -> Iterator[Line]:
        """Parts of a context shared by all sequences."""
        ends = [(tensor.bytes, tensor.saturates_at) for tensor in self._tensors()]
        growing = sum(bytes_ for bytes_, end in ends if end is None or end > self.tokens)
        fixed = sum(bytes_ for bytes_, end in ends if end == 0)
        if growing:
            yield Line("growing", f"{both_units(growing)}, {self._growth_words()}")
        if saturated := self.total_bytes - growing - fixed:
            yield Line("saturated", f"{both_units(saturated)}, full from {count(self._full_from())} tokens")
        if fixed:
            yield Line("fixed", f"{both_units(fixed)}, at any length")

    def _rank_lines(self) -> Iterator[Line]:
        """Bytes per rank, and of all ranks if they hold copies."""
        if not self.per_rank:
            return
        most, least = self.most_rank_bytes, min(rank.bytes for rank in self.per_rank)
        which = f"on each of {len(self.per_rank)}" if most == least else f"at most, {both_units(least)} at least"
        yield Line("per rank", f"{both_units(most)} {which}")
        if self.rank_bytes_sum != self.total_bytes:
            yield Line("all ranks", f"{both_units(self.rank_bytes_sum)}, {self._copies()}")

    def _copies(self) -> str:
        """`8 copies of c_kv, k_rope`: tensors whose total over all ranks is more or less than the model's."""
        whole = _bytes_by_name(self.groups)
        held = _bytes_by_name(group for rank in self.per_rank for group in rank.groups)
        copied: dict[str, list[str]] = {}
        for name in dict.fromkeys((*whole, *held)):  # padding may be on the ranks only, or on the whole model
            own, bytes_ = whole.get(name, 0), held.get(name, 0)
            if bytes_ != own:
                more = "more" if bytes_ > own else "less"
                number = more if not own or bytes_ % own or not bytes_ else f"{count(bytes_ // own)} copies"
                copied.setdefault(number, []).append(name)
        return "; ".join(f"{number} of {', '.join(names)}" for number, names in copied.items())

    def _growth_words(self) -> str:
        steps = ((_growth(bytes_, self.growth[1]), tokens) for tokens, bytes_ in self.later_growth)
        return ", ".join((_growth(*self.growth), *(f"{words} from {count(tokens)}" for words, tokens in steps)))

    def _full_from(self) -> int:
        """Token count from which everything that is full at this length is full."""
        return max(tensor.saturates_at or 0 for tensor in self._tensors() if (tensor.saturates_at or 0) <= self.tokens)

    def charts(self) -> "tuple[Bars, ...]":
        """A bar for each group of layers, made of its tensors; and what is kept off the devices."""
        from kvcalc.report.chart import Bar, Bars, Segment

        tones = {name: tone for tone, name in enumerate(dict.fromkeys(tensor.name for tensor in self._tensors()))}
        bars = tuple(
            Bar(
                f"{group.num_layers} {group.name}",
                tuple(Segment(tensor.name, tensor.bytes, tones[tensor.name]) for tensor in group.tensors),
            )
            for group in self.groups
        )
        return (Bars(self.heading(), "bytes of the cache", bars), *tier_charts(self.tiers, self.model))

    def asked(self) -> tuple[tuple[str, Cell], ...]:
        """The question, by the names of JSON."""
        return (
            ("model", self.model),
            ("tokens", self.tokens),
            ("sequences", self.sequences),
            ("kv_dtype", self.kv_dtype),
            ("engine", self.engine),
            ("engine_version", self.engine_version),
            *((("parallel", self.parallel),) if self.parallel else ()),
        )

    def policy_remarks(self) -> tuple[str, ...]:
        """The policy behind the numbers, and the results of others if different."""
        return policy_remarks((self,))

    def table(self) -> Table:
        """The same, with the question."""
        return Table.of(
            {
                **dict(self.asked()),
                "group": group.name,
                "attention": group.attention,
                "num_layers": group.num_layers,
                "tensor": tensor.name,
                "dims": " x ".join(f"{name} {size}" for name, size in tensor.dims),
                "dtype": tensor.dtype,
                "slot_rule": tensor.slot_rule,
                "slots": tensor.slots,
                "bytes_per_slot": tensor.bytes_per_slot,
                "bytes": tensor.bytes,
            }
            for group in self.groups
            for tensor in group.tensors
        )

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each tensor of each group."""
        columns = (
            Column("layers", once=True),
            Column("attention", wide=True, once=True),
            Column("tensor"),
            Column("tokens kept"),
            Column("slots", "count", wide=True),
            Column("bytes", "bytes"),
        )
        rows = tuple(
            (
                f"{group.num_layers} {group.name}",
                group.attention,
                f"{tensor.name} ({', '.join(f'{name} {count(size)}' for name, size in tensor.dims)})",
                tensor.slot_rule,
                tensor.slots,
                tensor.bytes,
            )
            for group in self.groups
            for tensor in group.tensors
        )
        return (Sheet(self.heading(), columns, rows, self.summary(), (*self.notes, *self.policy_remarks())),)


def _bytes_by_name(groups: Iterable[GroupReport]) -> dict[str, int]:
    """Bytes of all tensors of one name."""
    found: dict[str, int] = {}
    for group in groups:
        for tensor in group.tensors:
            found[tensor.name] = found.get(tensor.name, 0) + tensor.bytes
    return found


def _growth(bytes_: int, tokens: int) -> str:
    """`+24,576 per token`; if it comes in steps that do not divide evenly, `+320 per 128 tokens`."""
    return (
        f"+{count(bytes_)} per {count(tokens)} tokens" if bytes_ % tokens else (f"+{count(bytes_ // tokens)} per token")
    )


def _growth_data(growth: tuple[int, int]) -> dict[str, int]:
    return {"bytes": growth[0], "tokens": growth[1]}


def policy_remarks(reports: Sequence[Report]) -> tuple[str, ...]:
    """For reports of one model at several lengths: the active policy, and the results of each other one."""
    others = dict.fromkeys(words for report in reports for words, _ in report.other_policies)
    return tuple(
        f"{reports[0].policy}; {words}: "
        + " / ".join(both_units(dict(report.other_policies).get(words, report.total_bytes)) for report in reports)
        for words in others
    )
