"""`kvcalc weights`: bytes of a model's weights, by part and on each GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvcalc.fleet.weights import Weights
    from kvcalc.model import Model
    from kvcalc.model.checkpoint import Inventory, WeightTensor
    from kvcalc.report.weights import WeightsPart, WeightsReport

NOT_EQUAL = 1
_MOST_DIFFERENCES = 5
_CLOSE = 100
"""Files and the count in their format differ by less than 1%: headers, other kinds of scales."""


def run(
    *,
    named: str | None,
    preset: str | None,
    model: str | None,
    weights: str | None,
    weights_dtype: str | None,
    assume: str | None,
    mtp: bool,
    tp: int,
    pp: int,
    dp: int,
    ep: int,
    verify: bool,
    format: str,
) -> int:
    """Runs `kvcalc weights`."""
    check_output_format(format)

    from kvcalc.fleet.weights import divided_words, loaded, on_rank
    from kvcalc.parallel import Sharing
    from kvcalc.report.weights import WeightsReport

    ranks = asking.parallel(tp, pp, dp, ep=ep)
    chosen = asking.one_model(named, preset, model, assume=assume, mtp=mtp)
    found = asking.weights(chosen, weights, weights_dtype)
    served = loaded(found, chosen)
    uneven = Sharing(extra_layers="first")
    report = WeightsReport(
        model=chosen.name,
        total_bytes=found.bytes,
        source=found.source,
        estimate=found.estimate,
        parameters=found.parameters,
        parts=tuple(_parts(found)),
        loaded_bytes=served.bytes,
        parallel=str(ranks or ""),
        rank_bytes=None if ranks is None else asking.located("--tp, --pp", on_rank, served, chosen, ranks, uneven),
        notes=(*chosen.notes, *(() if ranks is None else (divided_words(served, ranks),))),
    )
    if verify:
        report = _verified(report, chosen, found)
    show(report, format)
    return 0 if report.equal else NOT_EQUAL


def _parts(weights: Weights) -> Iterator[WeightsPart]:
    """Bytes of each part; parameters only, if the files have another format than the count."""
    from kvcalc.model.checkpoint import PARTS
    from kvcalc.report.weights import WeightsPart

    counted_bytes = sum(part.bytes for part in weights.parts)
    known = abs(counted_bytes - weights.bytes) * _CLOSE <= weights.bytes
    for part in weights.parts:
        tensors = sum(each.tensor.times for each in weights.tensors if each.tensor.part == part.name)
        yield WeightsPart(part.name, PARTS[part.name], tensors, part.parameters, part.bytes if known else None)


def _verified(report: WeightsReport, model: Model, weights: Weights) -> WeightsReport:
    """Adds the class's own tensors, built on the meta device and compared with the counted ones."""
    built = asking.tensors_of_class(model)
    if built is None:
        raise InvalidValueError(
            f"{model.name} has no config to build its class from",
            where="--verify",
            help="name its config.json, or the folder with it",
        )
    known = tuple(each.tensor for each in weights.tensors)
    return report._replace(
        counted=built.parameters, counted_from=built.source, differences=tuple(_differences(built, known))
    )


def _differences(built: Inventory, known: tuple[WeightTensor, ...]) -> list[str]:
    """Tensors that differ from the class's; no class has those of multi-token prediction."""
    of_class = {(t.name, t.shape, t.layers) for t in built.tensors}
    counted = {(t.name, t.shape, t.layers) for t in known if t.part != "mtp"}
    found = [f"{name} {'x'.join(map(str, shape))}" for name, shape, _ in sorted(of_class ^ counted)]
    more = [f"{len(found) - _MOST_DIFFERENCES:,} more"] if len(found) > _MOST_DIFFERENCES else []
    return [*found[:_MOST_DIFFERENCES], *more]


COMMAND = Command(
    help=(
        "Bytes of a model's weights: by part (embeddings, attention, experts, towers, multi-token prediction), and on "
        "each GPU of a layout. Exit code 1: --verify found a difference."
    ),
    epilog="Example: kvcalc weights r1 --tp 8 --ep 8",
    takes=(
        options.NAMED,
        options.PRESET,
        options.MODEL,
        options.WEIGHTS,
        options.WEIGHTS_DTYPE,
        options.ASSUME,
        options.MTP,
        options.TP,
        options.PP,
        options.DP,
        options.EP,
        options.VERIFY._replace(help="Build the model's class on the meta device and compare each tensor."),
        options.FORMAT,
    ),
    run=run,
)
