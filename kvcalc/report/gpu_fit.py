"""How much of a model's cache fits on GPUs, and the limiting factor."""

from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.report.beside import UNRESERVED
from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Column, Json, Line, Sheet, Style, Table, in_version, plain
from kvcalc.report.tiers import NodeTier, tier_charts, tier_lines
from kvcalc.report.versions import named
from kvcalc.units import both_units, count, gigabytes, plural

if TYPE_CHECKING:
    from kvcalc.report.beside import Term
    from kvcalc.report.blocks import BlocksReport
    from kvcalc.report.chart import Bars, Segment
    from kvcalc.report.choices import ChoicesReport
    from kvcalc.report.fit import FitReport
    from kvcalc.report.others import Other
    from kvcalc.report.pool import PoolReport


_LABEL_WIDTH = 13


def _to(low: int, high: int) -> str:
    """`27 to 28`; one number if both are equal."""
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _layout(gpus: int, layout: str) -> str:
    """`8 (TP 8)`; one GPU has no layout."""
    return f"{count(gpus)} ({layout})" if layout else count(gpus)


class AtBest(NamedTuple):
    """What fits at the lower bound of an estimate of other memory.

    beside_bytes: the bounds. words: what is counted, and the source of the bounds. terms: each part of it with its own.
    The rest is as in GpuFit.
    """

    beside_bytes: tuple[int, int]
    words: str
    terms: "tuple[Term, ...]"
    cache_bytes: int
    max_tokens: int | None
    max_sequences: int | None
    fits: bool | None

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        terms: list[Json] = [dict(term._asdict()) for term in self.terms]
        return {**self._asdict(), "beside_bytes": list(self.beside_bytes), "terms": terms}


class GpuFit(NamedTuple):
    """Memory of each GPU by term, and the contexts and users that fit. Bytes are of one GPU.

    tokens: requested context, None if none was; sequences: users of all replicas together.
    share: share of a GPU that the engine takes, in words. taken_bytes: weights + reserve + cache.
    gpu_memory_from: how the memory of the GPU was established. weights_source: where weights_bytes came from.
    needed_bytes: for the requested users, on a rank of each pipeline stage; fits: whether they are available.
    max_tokens: largest context at this number of users; None if any fits, 0 if none does. max_sequences: most users at
    this context; None if tokens take no memory or no context was given. num_blocks, block_bytes, request_blocks: of
    engines with blocks; block_bytes on a rank of each stage.
    fewest: the fewest GPUs that suffice, with fewest_layout; fewest_by_tp: without pipeline stages; usual_gpus: in
    common layouts, with tensor parallelism within a node and stages across nodes.
    shares_context: whether all users share one context of these tokens. max_model_len: context of the model.
    binds: the limiting factor: weights, reserve, cache (of a stage), the longest request (model), or nothing if every
    context fits.
    planned: the engine's own report, if it has a planner and would start. engine_version: version whose rules apply.
    others: models on the same GPU, whose bytes are part of reserve_bytes. weights_estimate: whether the weights were
    counted in a format that some tensors may not have.
    tiers: caches off the devices, on each node. layouts: the best of all, if no layout was given.
    unreserved: whether no other memory is counted besides weights and cache.
    """

    model: str
    engine: str
    engine_settings: tuple[tuple[str, Json], ...]
    gpu: str
    gpu_source: str
    num_gpus: int
    parallel: str
    kv_dtype: str
    tokens: int | None
    sequences: int
    share: str
    gpu_bytes: int
    taken_bytes: int
    weights_bytes: int
    weights_source: str
    reserve_bytes: int
    cache_bytes: int
    needed_bytes: tuple[int, ...] | None
    fits: bool | None
    max_tokens: int | None
    max_sequences: int | None
    num_blocks: int | None
    block_bytes: tuple[int, ...]
    request_blocks: int | None
    fewest: int | None
    fewest_layout: str
    fewest_by_tp: int | None
    binds: str
    planned: "FitReport | PoolReport | BlocksReport | None"
    notes: tuple[str, ...] = ()
    engine_version: str = ""
    usual_gpus: int | None = None
    usual_layout: str = ""
    shares_context: bool = False
    max_model_len: int | None = None
    gpu_memory_from: str = ""
    at_best: AtBest | None = None
    weights_estimate: bool = False
    others: "tuple[Other, ...]" = ()
    tiers: tuple[NodeTier, ...] = ()
    layouts: "ChoicesReport | None" = None
    unreserved: bool = False

    @property
    def holds(self) -> bool:
        """Whether it holds what is asked; a single token, where no context is."""
        return self.fits is not False and self.max_tokens != 0

    @property
    def estimate(self) -> bool:
        """Whether any of its numbers rests on an estimate."""
        return self.weights_estimate or self.at_best is not None

    @property
    def log_line(self) -> str:
        """The line of the engine's start-up log; empty if it has no planner or would not start."""
        return self.planned.log_line if self.planned else ""

    @property
    def max_context(self) -> int | None:
        """Largest context of each user, or of all users that share one, that fits memory and model."""
        if self.max_model_len is None:
            return self.max_tokens
        own = self.max_model_len * (self.sequences if self.shares_context else 1)
        return own if self.max_tokens is None else min(own, self.max_tokens)

    @property
    def free_bytes(self) -> tuple[int, ...]:
        """Memory for the cache that the request leaves on a rank of each pipeline stage; negative: missing."""
        return tuple(self.cache_bytes - needed for needed in self.needed_bytes or ())

    @property
    def untaken_bytes(self) -> int:
        """Memory of the GPU that the engine does not use."""
        return self.gpu_bytes - self.taken_bytes

    def charts(self) -> "tuple[Bars, ...]":
        """Memory of a GPU, part by part, against its total; a bar for each stage that differs. And tiers."""
        from kvcalc.report.chart import Bar, Bars, Level

        needed = self.needed_bytes or (None,)
        stages = {parts: stage for stage, parts in reversed([*enumerate(map(self._parts, needed))])}
        named = sorted((stage, parts) for parts, stage in stages.items())
        bars = tuple(Bar(f"stage {stage}" if len(named) > 1 else "each GPU", parts) for stage, parts in named)
        level = Level(f"memory of {self.gpu}", self.gpu_bytes)
        of_gpu = Bars(self.sheets()[0].title, "memory of each GPU", bars, (level,))
        return (of_gpu, *tier_charts(self.tiers, self.model))

    def _parts(self, needed: int | None) -> "tuple[Segment, ...]":
        """Weights, other memory, the requested cache, and what is left."""
        from kvcalc.report.chart import Segment

        asked = max(0, self.cache_bytes) if needed is None else needed
        parts = [
            Segment("weights", self.weights_bytes, 0),
            Segment("activations, CUDA graphs and the rest", self.reserve_bytes, 1),
            Segment("left for the cache" if needed is None else "requested cache", asked, 2),
            Segment("free for more cache", 0 if needed is None else self.cache_bytes - needed, 3),
            Segment("not used by the engine", self.untaken_bytes, 4),
        ]
        fits = asked <= self.cache_bytes
        return tuple(part for part in parts if part.bytes > 0 and (fits or part.tone <= 2))  # noqa: PLR2004  # a tone

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("fit"),
            "model": self.model,
            "engine": self.engine,
            **({"engine_version": self.engine_version} if self.engine_version else {}),
            "engine_settings": plain(dict(self.engine_settings)),
            "gpu": {
                "name": self.gpu,
                "memory_bytes": self.gpu_bytes,
                "memory_from": self.gpu_memory_from,
                "source": self.gpu_source,
            },
            "gpus": self.num_gpus,
            "parallel": self.parallel,
            "workload": {"tokens": self.tokens, "sequences": self.sequences, "kv_dtype": self.kv_dtype},
            "share": self.share,
            "taken_bytes": self.taken_bytes,
            "weights_bytes": self.weights_bytes,
            "weights_source": self.weights_source,
            "weights_estimate": self.weights_estimate,
            **({"others": [each.to_dict() for each in self.others]} if self.others else {}),
            "estimate": self.estimate,
            "reserve_bytes": self.reserve_bytes,
            "cache_bytes": self.cache_bytes,
            "needed_bytes": None if self.needed_bytes is None else list(self.needed_bytes),
            "free_bytes": None if self.needed_bytes is None else list(self.free_bytes),
            "untaken_bytes": self.untaken_bytes,
            "fits": self.fits,
            "max_tokens": self.max_tokens,
            "max_context": self.max_context,
            "max_sequences": self.max_sequences,
            "num_blocks": self.num_blocks,
            "block_bytes": list(self.block_bytes),
            "blocks_per_request": self.request_blocks,
            "fewest_gpus": self.fewest,
            "fewest_gpus_layout": self.fewest_layout,
            "fewest_gpus_by_tp": self.fewest_by_tp,
            "usual_gpus": self.usual_gpus,
            "usual_gpus_layout": self.usual_layout,
            "binds": self.binds,
            "at_best": None if self.at_best is None else self.at_best.to_dict(),
            "planned": None if self.planned is None else self.planned.to_dict(),
            **({"tiers": [tier.to_dict() for tier in self.tiers]} if self.tiers else {}),
            **({"layouts": self.layouts.to_dict()} if self.layouts else {}),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each term of a GPU's memory."""
        columns = (
            Column("on each GPU"),
            Column("bytes", "bytes"),
            Column("GB", "gigabytes"),
            Column("GiB", "gibibytes"),
        )
        rows = [
            (f"memory of {self.gpu}", self.gpu_bytes),
            (f"taken ({self.share})", self.taken_bytes),
            ("weights, estimated" if self.weights_estimate else "weights", self.weights_bytes),
            ("reserve" if self.at_best is None else "other memory, at most", self.reserve_bytes - self._of_others()),
            *((str(each), each.most_bytes) for each in self.others),
            ("left for the cache", self.cache_bytes),
            *self._needed_rows(),
        ]
        on = self.gpu if self.num_gpus == 1 else f"{count(self.num_gpus)} x {self.gpu}"
        layout = f", {self.parallel}" if self.num_gpus > 1 else ""
        title = f"{self.model} in {in_version(self.engine, self.engine_version)} on {on}{layout}, {self.kv_dtype}"
        cells = tuple((*row, row[1], row[1]) for row in rows)
        own = Sheet(title, columns, cells, self._summary(), self.notes, label_width=_LABEL_WIDTH)
        return (own,) if self.layouts is None else (own, self.layouts.sheet_after(self.notes))

    def table(self) -> Table:
        """Question and answer in one row, by the names of JSON."""
        best = self.at_best
        return Table.of(
            [
                {
                    "model": self.model,
                    "tokens": self.tokens,
                    "sequences": self.sequences,
                    "kv_dtype": self.kv_dtype,
                    "engine": self.engine,
                    "engine_version": self.engine_version,
                    "gpu": self.gpu,
                    "gpus": self.num_gpus,
                    "parallel": self.parallel,
                    "gpu_memory_bytes": self.gpu_bytes,
                    "taken_bytes": self.taken_bytes,
                    "weights_bytes": self.weights_bytes,
                    "reserve_bytes": self.reserve_bytes,
                    "cache_bytes": self.cache_bytes,
                    "needed_bytes": None if self.needed_bytes is None else max(self.needed_bytes),
                    "fits": self.fits,
                    "max_tokens": self.max_tokens,
                    "max_context": self.max_context,
                    "max_sequences": self.max_sequences,
                    "num_blocks": self.num_blocks,
                    "block_bytes": max(self.block_bytes, default=None),
                    "blocks_per_request": self.request_blocks,
                    "fewest_gpus": self.fewest,
                    "fewest_gpus_layout": self.fewest_layout,
                    "fewest_gpus_by_tp": self.fewest_by_tp,
                    "binds": self.binds,
                    "log": self.log_line,
                    "estimate": self.estimate,
                    "max_tokens_at_best": self.max_tokens if best is None else best.max_tokens,
                    "max_sequences_at_best": self.max_sequences if best is None else best.max_sequences,
                }
            ]
        )

    def _of_others(self) -> int:
        """Bytes of other models, which are part of reserve_bytes."""
        return sum(each.most_bytes for each in self.others)

    def _needed_rows(self) -> list[tuple[str, int]]:
        if self.needed_bytes is None:
            return []
        if len(set(self.needed_bytes)) == 1:
            return [("asked for", self.needed_bytes[0])]
        return [(f"asked for, stage {stage}", each_bytes) for stage, each_bytes in enumerate(self.needed_bytes)]

    def _summary(self) -> tuple[Line, ...]:
        lines = [*self._estimated(), self._largest()]
        at_least = " (at least)" if self.at_best is not None else ""
        if self.tokens is not None:
            lines.extend(self._asked(self.tokens))
        if self.num_blocks is not None:
            sizes = " and ".join(dict.fromkeys(f"{count(each_bytes)} bytes" for each_bytes in self.block_bytes))
            lines.append(Line("blocks", f"{count(self.num_blocks)} of {sizes}{at_least}"))
        lines.append(Line("limited by", self._bound()))
        lines.extend(tier_lines(self.tiers))
        if self.log_line:
            lines.append(Line("log", f"{self.log_line}{at_least}"))
        return tuple(lines)

    def _estimated(self) -> list[Line]:
        """The terms of memory if one of them is an interval."""
        if self.at_best is None:
            return [UNRESERVED] if self.unreserved else []
        low, high = self.at_best.beside_bytes
        beside = f"other memory {gigabytes(low)} to {gigabytes(high)} (estimate)"
        cache = f"cache {gigabytes(self.cache_bytes)} to {gigabytes(self.at_best.cache_bytes)}"
        counted = " (estimate)" if self.weights_estimate else ""
        terms = [f"weights {gigabytes(self.weights_bytes)}{counted}", beside]
        if self.others:
            least = sum(each.least_bytes for each in self.others)
            terms.append(f"other models {gigabytes(least)} to {gigabytes(self._of_others())} (estimate)")
        return [Line("memory", " | ".join([*terms, cache]))]

    def _largest(self) -> Line:
        """The headline: at most the model's own context, even if memory holds more."""
        users, most = plural(self.sequences, "user"), self.max_context
        if self.max_tokens == 0:
            return Line("max context", f"none: not even one token of {users} fits", "alarm")
        if most is None:
            return Line("max context", f"any ({users})", "answer")
        whose = f"shared by {users}" if self.shares_context and self.sequences > 1 else f"({users})"
        held = "any length" if self.max_tokens is None else count(self.max_tokens)
        best = self.at_best.max_tokens if self.at_best else self.max_tokens
        if most == self.max_tokens and best is not None and best > most:
            longest = best if self.max_model_len is None else max(most, min(best, self.max_model_len))
            return Line("max context", f"{_to(most, longest)} tokens {whose}", "answer")
        more = "" if most == self.max_tokens else f", the model's context; memory holds {held}"
        return Line("max context", f"{plural(most, 'token')} {whose}{more}", "answer")

    def _asked(self, tokens: int) -> list[Line]:
        users = plural(self.sequences, "user")
        at = f"{users} at {plural(tokens, 'token')}"
        length = f"at {plural(tokens, 'token')}"
        if self.shares_context:
            length = f"sharing {plural(tokens, 'token')}"
            at = f"{users} {length}" + (f" ({count(tokens // self.sequences)} each)" if self.sequences > 1 else "")
        blocks = "" if self.request_blocks is None else f", {plural(self.request_blocks, 'block')} each"
        style: Style = "plain" if self.fits else "alarm"
        most = "any number" if self.max_sequences is None else count(self.max_sequences)
        if self.at_best is not None and None not in (self.max_sequences, self.at_best.max_sequences):
            most = _to(self.max_sequences or 0, self.at_best.max_sequences or 0)
        verdict = "fits" if self.fits else "TOO LARGE"
        if not self.fits and self.at_best is not None and self.at_best.fits:
            verdict = "may not fit: depends on memory besides the weights"
        return [
            Line("asked", f"{at}{blocks}: {verdict}", style),
            Line("max users", f"{most} {length}"),
            Line("GPUs", self._fewest()),
        ]

    def _fewest(self) -> str:
        """Common layouts first; then the fewest GPUs, and those without stages if they differ."""
        if self.fewest is None:
            return "no layout tried fits the request"
        least = f"minimum {_layout(self.fewest, self.fewest_layout)}"
        if self.usual_gpus is not None and self.usual_gpus != self.fewest:
            return f"{_layout(self.usual_gpus, self.usual_layout)}; {least}"
        if self.usual_gpus is None and self.fewest_by_tp not in (None, self.fewest):
            return f"{least}; {count(self.fewest_by_tp or 0)} without pipeline parallelism"
        return f"minimum {_layout(self.fewest, self.usual_layout or self.fewest_layout)}"

    def _bound(self) -> str:
        if self.max_context is not None and self.max_context != self.max_tokens:
            return "the model's context, not memory"
        words = {
            "weights": f"the weights: {both_units(self.weights_bytes)} of {both_units(self.taken_bytes)}",
            "reserve": f"the reserve: {both_units(self.reserve_bytes)} besides the weights",
            "model": "max_model_len, not memory",
            "settings": "the engine's settings, not memory",
            "nothing": "nothing: the cache does not grow with the context",
            "cache": "the cache, the same on every rank" if self.num_gpus > 1 else "the cache",
        }
        return words.get(self.binds, f"the {self.binds}")
