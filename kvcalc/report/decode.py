"""Bytes read by one decode step, and the floor of its time."""

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Table, in_version
from kvcalc.report.versions import named
from kvcalc.units import both_units, count, milliseconds, plural

if TYPE_CHECKING:
    from kvcalc.report.chart import Curves


class TensorReads(NamedTuple):
    """A cached tensor of a group of layers. reads: the slots that a step reads. Bytes are of all sequences."""

    group: str
    tensor: str
    layers: int
    reads: str
    held_bytes: int
    read_bytes: int

    def with_layers_of(self, other: "TensorReads") -> "TensorReads":
        """Both together."""
        return self._replace(
            layers=self.layers + other.layers,
            held_bytes=self.held_bytes + other.held_bytes,
            read_bytes=self.read_bytes + other.read_bytes,
        )


class WeightReads(NamedTuple):
    """A part of the weights. least_bytes: the minimum a step reads; expected_bytes: with even routing, of `reads`."""

    part: str
    held_bytes: int
    least_bytes: int
    expected_bytes: int
    reads: str


class Experts(NamedTuple):
    """Routed experts of a layer: on a GPU, in total, per token, and those on the GPU that a step reads.

    least: if all tokens choose the same. expected: an estimate for `tokens` tokens that choose evenly.
    """

    on_gpu: int
    in_all: int
    per_token: int
    least: int
    expected: Fraction
    tokens: int


class DecodeReport(NamedTuple):
    """Bytes that one step reads on a GPU of each pipeline stage, all stages together.

    sequences: of all replicas; sequences_of_gpu: of one. costs_more_from: fewest cached tokens at which the cache costs
    more than the expected weights; None: never. experts: None without routed experts. by_tokens:
    what a step reads of the cache at several lengths.
    """

    model: str
    kv_dtype: str
    tokens: int
    sequences: int
    sequences_of_gpu: int
    parallel: str
    stages: int
    cache: tuple[TensorReads, ...]
    weights: tuple[WeightReads, ...]
    experts: Experts | None
    costs_more_from: int | None
    device: str
    bandwidth_bytes_per_second: int | None
    notes: tuple[str, ...] = ()
    by_tokens: tuple[tuple[int, int], ...] = ()
    engine: str = "ideal"
    engine_version: str = ""

    @property
    def cache_bytes(self) -> int:
        """Bytes of the cache that a step reads."""
        return sum(row.read_bytes for row in self.cache)

    @property
    def held_bytes(self) -> int:
        """Bytes cached."""
        return sum(row.held_bytes for row in self.cache)

    @property
    def weights_bytes(self) -> int:
        """Minimum bytes of the weights that a step reads."""
        return sum(part.least_bytes for part in self.weights)

    @property
    def expected_weights_bytes(self) -> int:
        """Bytes of the weights that a step reads with even routing."""
        return sum(part.expected_bytes for part in self.weights)

    @property
    def step_bytes(self) -> int:
        """Minimum of cache and weights."""
        return self.cache_bytes + self.weights_bytes

    @property
    def expected_step_bytes(self) -> int:
        """Cache and weights with even routing."""
        return self.cache_bytes + self.expected_weights_bytes

    @property
    def seconds(self) -> Fraction | None:
        """The floor of a step's time; None if the bandwidth is unknown."""
        return self._seconds(self.step_bytes)

    @property
    def expected_seconds(self) -> Fraction | None:
        """The same with even routing."""
        return self._seconds(self.expected_step_bytes)

    def _seconds(self, number_bytes: int) -> Fraction | None:
        rate = self.bandwidth_bytes_per_second
        return None if rate is None else Fraction(number_bytes, rate)

    def to_dict(self) -> dict[str, Json]:
        """Plain values; bytes are exact, seconds rounded."""
        experts = self.experts
        return {
            **named("decode"),
            "model": self.model,
            "engine": self.engine,
            **({"engine_version": self.engine_version} if self.engine_version else {}),
            "kv_dtype": self.kv_dtype,
            "tokens": self.tokens,
            "sequences": self.sequences,
            "parallel": self.parallel,
            "held_bytes": self.held_bytes,
            "cache_bytes": self.cache_bytes,
            "weights_bytes": self.weights_bytes,
            "expected_weights_bytes": self.expected_weights_bytes,
            "step_bytes": self.step_bytes,
            "expected_step_bytes": self.expected_step_bytes,
            "experts": None if experts is None else {**experts._asdict(), "expected": float(experts.expected)},
            "costs_more_from_tokens": self.costs_more_from,
            "device": self.device,
            "bandwidth_bytes_per_second": self.bandwidth_bytes_per_second,
            "at_least_seconds": None if self.seconds is None else float(self.seconds),
            "expected_at_least_seconds": None if self.expected_seconds is None else float(self.expected_seconds),
            "cache": [row._asdict() for row in self.cache],
            "weights": [part._asdict() for part in self.weights],
            "cache_bytes_by_tokens": [{"tokens": tokens, "bytes": read} for tokens, read in self.by_tokens],
            "notes": list(self.notes),
        }

    def charts(self) -> "tuple[Curves, ...]":
        """What a step reads of the cache over the context, and of the weights: lines that cross."""
        from kvcalc.report.chart import BYTES, TOKENS, Axis, Curves, Series

        crossing = tuple(tokens for tokens, _ in self.by_tokens if tokens == self.costs_more_from and self.weights)
        lines = [Series("cache", self.by_tokens, crossing)]
        ends = (self.by_tokens[0][0], self.by_tokens[-1][0])
        weights = {"weights": self.weights_bytes} if self.weights else {}
        if self._is_estimate:
            weights = {"weights, at least": self.weights_bytes, "weights, estimated": self.expected_weights_bytes}
        lines += [Series(label, tuple((tokens, read) for tokens in ends)) for label, read in weights.items()]
        x, y = Axis("cached tokens of each sequence", TOKENS), Axis("bytes that a decode step reads", BYTES)
        title = f"{self._of}: bytes of a decode step by context, {self._whose}"
        marked = "more than the weights from here on"
        return (Curves(title, x, y, tuple(lines), notes=self.notes, marked=marked),)

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def table(self) -> Table:
        """One row for each cached tensor and each part of the weights, with the question."""
        common: dict[str, Cell] = {"model": self.model, "tokens": self.tokens, "sequences": self.sequences}
        common |= {"engine": self.engine, "engine_version": self.engine_version}
        common |= {"kv_dtype": self.kv_dtype, "parallel": self.parallel, "device": self.device}
        cached = ({"of": "cache", **row._asdict()} for row in self.cache)
        weighed = (
            {"of": "weights", "part": w.part, "reads": w.reads, "held_bytes": w.held_bytes}
            | {"read_bytes": w.least_bytes, "expected_bytes": w.expected_bytes}
            for w in self.weights
        )
        return Table.of({**common, **row} for row in (*cached, *weighed))

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each cached tensor and each part of the weights."""
        columns = (
            Column("layers"),
            Column("what"),
            Column("number", "count", wide=True),
            Column("reads"),
            Column("held", "bytes"),
            Column("read", "bytes"),
        )
        rows = (
            *((r.group, r.tensor, r.layers, r.reads, r.held_bytes, r.read_bytes) for r in self.cache),
            *(("weights", w.part, None, w.reads, w.held_bytes, w.expected_bytes) for w in self.weights),
        )
        at = f"{plural(self.sequences, 'sequence')} at {plural(self.tokens, 'token')}"
        title = f"{self._of}: one decode step of {at}, {self.kv_dtype}{self._where}"
        return (Sheet(title, columns, rows, tuple(self._lines()), self.notes),)

    @property
    def _of(self) -> str:
        """The model, and its engine if one was named."""
        engine = in_version(self.engine, self.engine_version)
        return self.model if engine == "ideal" else f"{self.model} in {engine}"

    @property
    def _whose(self) -> str:
        """Sequences, format and GPUs, in words."""
        return f"{plural(self.sequences, 'sequence')}, {self.kv_dtype}{self._where}"

    @property
    def _where(self) -> str:
        if not self.parallel:
            return ""
        return (
            f", on a GPU of each stage of {self.parallel}" if self.stages > 1 else f", on each GPU of {self.parallel}"
        )

    @property
    def _is_estimate(self) -> bool:
        """Whether the bytes read depend on routing."""
        return self.expected_step_bytes != self.step_bytes

    def _lines(self) -> list[Line]:
        held = "" if self.cache_bytes == self.held_bytes else f" of {both_units(self.held_bytes)} held"
        least = "at least " if self._is_estimate else ""
        lines = [
            Line("cache", f"{both_units(self.cache_bytes)}{held}"),
            Line("weights", f"{least}{both_units(self.weights_bytes)}" if self.weights else "not counted"),
        ]
        if self.experts is not None and self._is_estimate:
            lines.append(Line("", self._of_experts(self.experts), "detail"))
        lines.append(Line("a step", f"at least {both_units(self.step_bytes)}", "answer"))
        if self._is_estimate:
            lines.append(Line("expected", f"{both_units(self.expected_step_bytes)} (estimate)"))
        start = "at no context" if self.costs_more_from is None else f"from {plural(self.costs_more_from, 'token')}"
        if self.weights:
            lines.append(Line("crossover", f"the cache costs more than the weights {start}"))
        lines.extend(self._of_time())
        return lines

    def _of_experts(self, experts: Experts) -> str:
        return (
            f"{experts.least:,} of {experts.on_gpu:,} experts per layer if all tokens choose the same; "
            f"{float(experts.expected):,.1f} expected for {plural(experts.tokens, 'token')} choosing "
            f"{experts.per_token:,} of {experts.in_all:,} evenly (estimate): {both_units(self.expected_weights_bytes)}"
        )

    def _of_time(self) -> list[Line]:
        if self.seconds is None or self.expected_seconds is None or self.bandwidth_bytes_per_second is None:
            return []
        rate = f"{self.device or 'memory'} at {count(self.bandwidth_bytes_per_second // 10**9)} GB/s"
        expected = f"; {milliseconds(self.expected_seconds)} expected (estimate)" if self._is_estimate else ""
        users = float(self.sequences / self.seconds)
        each = f"at most {float(1 / self.seconds):,.1f} tokens/s per sequence, {users:,.1f} in total"
        return [
            Line("floor", f"{milliseconds(self.seconds)} per step{expected}: {rate}", "answer"),
            Line("", each, "detail"),
        ]
