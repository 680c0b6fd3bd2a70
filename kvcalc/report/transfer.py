"""Bytes that one request sends from prefill to decode, and their time on a link."""

from fractions import Fraction
from typing import Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Column, Json, Line, Sheet, in_version
from kvcalc.report.versions import named
from kvcalc.units import both_units, count, milliseconds, plural


class Pair(NamedTuple):
    """Bytes that one prefill rank sends to one decode rank."""

    prefill_rank: int
    decode_rank: int
    bytes: int


class TransferReport(NamedTuple):
    """The transfer of one request's cache.

    request_bytes: of the whole cache, once. pairs: bytes by sender and receiver; copies are sent to each decode rank
    that holds one. link_bytes_per_second: of each GPU's own link; None without a link. staged_bytes: memory that a
    decode rank reserves for `in_flight` requests while they arrive.
    """

    model: str
    engine: str
    engine_version: str
    kv_dtype: str
    tokens: int
    prefill: str
    decode: str
    request_bytes: int
    pairs: tuple[Pair, ...]
    link_bytes_per_second: int | None
    in_flight: int
    staged_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def sent_bytes(self) -> int:
        """On all links together."""
        return sum(pair.bytes for pair in self.pairs)

    @property
    def busiest_bytes(self) -> int:
        """On the busiest rank's link."""
        loads: dict[tuple[str, int], int] = {}
        for pair in self.pairs:
            for end in (("prefill", pair.prefill_rank), ("decode", pair.decode_rank)):
                loads[end] = loads.get(end, 0) + pair.bytes
        return max(loads.values(), default=0)

    @property
    def seconds(self) -> Fraction | None:
        """Lower bound: the busiest link at its full rate. None without a link."""
        return None if self.link_bytes_per_second is None else Fraction(self.busiest_bytes, self.link_bytes_per_second)

    @property
    def seconds_if_shared(self) -> Fraction | None:
        """Lower bound if a single link carries everything."""
        return None if self.link_bytes_per_second is None else Fraction(self.sent_bytes, self.link_bytes_per_second)

    @property
    def prefill_tokens_per_second(self) -> int | None:
        """Prefill tokens per second at which its GPUs' links are saturated."""
        return int(self.tokens / self.seconds) if self.seconds else None

    def to_dict(self) -> dict[str, Json]:
        """Plain values; bytes are exact, seconds rounded."""
        return {
            **named("transfer"),
            "model": self.model,
            "engine": self.engine,
            **({"engine_version": self.engine_version} if self.engine_version else {}),
            "kv_dtype": self.kv_dtype,
            "tokens": self.tokens,
            "prefill": self.prefill,
            "decode": self.decode,
            "request_bytes": self.request_bytes,
            "sent_bytes": self.sent_bytes,
            "busiest_link_bytes": self.busiest_bytes,
            "link_bytes_per_second": self.link_bytes_per_second,
            "seconds": None if self.seconds is None else float(self.seconds),
            "seconds_if_shared": None if self.seconds_if_shared is None else float(self.seconds_if_shared),
            "prefill_tokens_per_second": self.prefill_tokens_per_second,
            "in_flight": self.in_flight,
            "staged_bytes": self.staged_bytes,
            "pairs": [pair._asdict() for pair in self.pairs],
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
        """One row for each pair."""
        columns = (
            Column("prefill rank", "count"),
            Column("decode rank", "count"),
            Column("bytes", "bytes"),
        )
        title = (
            f"{self.model}, a request of {plural(self.tokens, 'token')} in "
            f"{in_version(self.engine, self.engine_version)}, {self.kv_dtype}: {self.prefill} to {self.decode}"
        )
        asked = (
            *(("model", self.model), ("tokens", self.tokens), ("kv_dtype", self.kv_dtype), ("engine", self.engine)),
            *(("engine_version", self.engine_version), ("prefill", self.prefill), ("decode", self.decode)),
        )
        return (Sheet(title, columns, tuple(self.pairs), tuple(self._lines()), self.notes, asked=asked),)

    def _lines(self) -> list[Line]:
        lines = [Line("request", both_units(self.request_bytes), "answer")]
        if self.sent_bytes != self.request_bytes:
            times = Fraction(self.sent_bytes, self.request_bytes)
            copies = f"{float(times):.2f}x: copies are sent to each decode rank that holds them"
            lines.append(Line("sent", f"{both_units(self.sent_bytes)}, {copies}"))
        lines.append(Line("busiest link", both_units(self.busiest_bytes)))
        if self.seconds is not None and self.seconds_if_shared is not None:
            shared = f"; {milliseconds(self.seconds_if_shared)} if all GPUs share one link"
            lines.append(Line("at least", f"{milliseconds(self.seconds)} with one link per GPU{shared}", "answer"))
            rate = self.prefill_tokens_per_second or 0
            lines.append(
                Line("link limit", f"{count(rate)} prefill tokens/s, {float(1 / self.seconds):,.1f} requests/s")
            )
        about = plural(self.in_flight, "request")
        lines.append(Line("staging", f"{both_units(self.staged_bytes)} on each decode GPU for {about} in flight"))
        return lines
