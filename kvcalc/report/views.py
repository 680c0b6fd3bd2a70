"""Other views of a size: layer by layer, at several lengths, and with its formula explained."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from kvcalc.report.methods import MethodEntry, MethodPage
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Table
from kvcalc.report.size import GroupReport, Report, TensorReport, policy_remarks
from kvcalc.units import count, plural

if TYPE_CHECKING:
    from kvcalc.report.chart import Bars, Curves, Strip

_INDENT = " " * 4
"""Keys in JSON of the explanation of the formula."""


class Layers(NamedTuple):
    """A report shown layer by layer."""

    report: Report

    def _rows(self) -> list[tuple[int, str, str, int, int]]:
        rows = [
            (
                layer,
                group.name,
                group.attention,
                max((tensor.slots for tensor in group.tensors), default=0),
                group.bytes // group.num_layers,
            )
            for group in self.report.groups
            for layer in group.layers
        ]
        return sorted(rows)

    def charts(self) -> "tuple[Strip, ...]":
        """The layers side by side."""
        from kvcalc.report.chart import Layer, Strip

        layers = tuple(Layer(layer, group, bytes_) for layer, group, _, _, bytes_ in self._rows())
        return (Strip(self.report.heading(), layers),)

    def to_dict(self) -> dict[str, Json]:
        """The report's values with a list `layers`."""
        keys = ("layer", "group", "attention", "slots", "bytes")
        return {**self.report.to_dict(), "layers": [dict(zip(keys, row, strict=True)) for row in self._rows()]}

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each layer."""
        columns = (
            Column("layer", "count"),
            Column("group"),
            Column("attention"),
            Column("slots", "count"),
            Column("bytes", "bytes"),
        )
        report = self.report
        remarks = (*report.notes, *report.policy_remarks())
        sheet = Sheet(report.heading(), columns, tuple(self._rows()), report.summary(), remarks, asked=report.asked())
        return (sheet,)


class Lengths(NamedTuple):
    """Reports of one model at several token counts, one row each."""

    reports: tuple[Report, ...]

    def charts(self) -> "tuple[Curves, ...]":
        """The totals; no claim about token counts in between."""
        from kvcalc.report.chart import at_lengths

        points = tuple((report.tokens, report.total_bytes) for report in self.reports)
        return (at_lengths(self.sheets()[0].title, [(self.reports[0].model, points)]),)

    def to_dict(self) -> list[Json]:
        """The list of the reports' values."""
        return [report.to_dict() for report in self.reports]

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each token count."""
        first = self.reports[0]
        notes = dict.fromkeys(note for report in self.reports for note in report.notes)
        question = (plural(first.sequences, "sequence"), first.kv_dtype, first.engine_words, first.parallel)
        ranks = (Column("most on a rank, bytes", "bytes", key="most_rank_bytes"),) if first.per_rank else ()
        return (
            Sheet(
                ", ".join(filter(None, (first.model, *question))),
                (
                    Column("tokens", "count"),
                    Column("total bytes", "bytes"),
                    Column("total GB", "gigabytes"),
                    Column("total GiB", "gibibytes"),
                    Column("bytes per token", "bytes", key="bytes_per_token"),
                    *ranks,
                ),
                tuple(
                    (r.tokens, *3 * (r.total_bytes,), r.bytes_per_token, *(r.most_rank_bytes for _ in ranks))
                    for r in self.reports
                ),
                notes=(*notes, *policy_remarks(self.reports)),
                asked=first.asked(),
            ),
        )


class Explanation(NamedTuple):
    """A report with its formula in numbers and the source of each factor.

    methods: applied to the model, each explained separately.
    """

    report: Report
    methods: tuple[MethodEntry, ...] = ()

    def charts(self) -> "tuple[Bars, ...]":
        """The report's."""
        return self.report.charts()

    def to_dict(self) -> dict[str, Json]:
        """The report's values with `formulas` and `origins`."""
        return {
            **self.report.to_dict(),
            "formulas": [f"{_INDENT * (line.style == 'detail')}{line.value}" for line in self._formulas()],
            "origins": [
                {"group": group, "field": field, "value": value, "origin": origin}
                for group, field, value, origin in self._origins()
            ],
            **({"methods": [method.to_dict() for method in self.methods]} if self.methods else {}),
        }

    def table(self) -> Table:
        """The report's; formulas and factors are in tables and JSON only."""
        return self.report.table()

    def sheets(self) -> tuple[Sheet, ...]:
        """The report, its formulas, and one row for each factor."""
        report = self.report
        factors = tuple((group, field, value, origin) for group, field, value, origin in self._origins())
        columns = (Column("group", once=True), Column("factor"), Column("value", "count"), Column("where it came from"))
        formula = Sheet("Formula", columns, factors, tuple(self._formulas()))
        pages = (MethodPage(each, given=True).sheets() for each in self.methods)
        return (*report.sheets(), formula, *(sheet for page in pages for sheet in page))

    def _formulas(self) -> list[Line]:
        report = self.report
        times = "" if report.shares_context else f"{plural(report.sequences, 'sequence')} x "
        times += f"{count(report.copies)} copies of each x " if report.copies > 1 else ""
        tensors = [(group, tensor) for group in report.groups for tensor in group.tensors]
        lines = (line for group, tensor in tensors for line in _formula(group, tensor, times, report.tokens))
        terms = " + ".join(count(tensor.bytes) for _, tensor in tensors)
        return [*lines, Line("", f"total = {terms} = {plural(report.total_bytes, 'byte')}", "answer")]

    def _origins(self) -> list[tuple[str, str, Cell, str]]:
        report = self.report
        return [
            ("(model)", "num_layers", report.num_layers, str(report.num_layers_origin)),
            *(
                (group.name, field, value, str(origin))
                for group in report.groups
                for field, value, origin in group.origins
            ),
        ]


def _formula(group: GroupReport, tensor: TensorReport, times: str, tokens: int) -> Iterator[Line]:
    """Bytes of one tensor in numbers; times: its count in a layer."""
    layers, slots = plural(group.num_layers, "layer"), plural(tensor.slots, "slot")
    bytes_ = plural(tensor.bytes_per_slot, "byte")
    dims = " x ".join(f"{name} {count(size)}" for name, size in tensor.dims)
    yield Line("", f"{group.name}.{tensor.name} = {layers} x {times}{slots} x {bytes_} = {count(tensor.bytes)}")
    yield Line("", f"{bytes_} = {dims} x {tensor.element_cost} ({tensor.dtype})", "detail")
    yield Line("", f"{slots} = {tensor.slot_rule} of {plural(tokens, 'token')}", "detail")
