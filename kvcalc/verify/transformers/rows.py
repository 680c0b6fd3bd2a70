"""Each layer's prediction next to what it held: one row for all layers of a group that hold the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvcalc.report.size import GroupReport, Report
from kvcalc.report.verification import MeasuredTensor
from kvcalc.verify.transformers.held import LayerBytes


def compared(report: Report, held: Mapping[str, list[LayerBytes]]) -> Iterator[MeasuredTensor]:
    """Rows of all layers of each group that hold the same; layers without a prediction come last."""
    for group in report.groups:
        yield from _rows_of(group, held)
    for part, layers in held.items():
        extra = range(report.num_layers, len(layers))
        yield from (_row("not predicted", part, (layer,), (0, 0), layers[layer]) for layer in extra)


def _rows_of(group: GroupReport, held: Mapping[str, list[LayerBytes]]) -> Iterator[MeasuredTensor]:
    for part in ("self", "cross"):
        predicted = predicted_of(group, cross=part == "cross")
        alike: dict[LayerBytes, list[int]] = {}
        for layer in group.layers:
            measured = held.get(part, [])
            alike.setdefault(measured[layer] if layer < len(measured) else LayerBytes(), []).append(layer)
        for found, layers in alike.items():
            if predicted != (0, 0) or found.logical_bytes:
                which = f"{len(layers)} {group.name}" + (f" ({ranges(layers)})" if len(alike) > 1 else "")
                yield _row(which, part, tuple(layers), predicted, found)


def predicted_of(group: GroupReport, *, cross: bool) -> tuple[int, int]:
    """Bytes of one layer of a group, and of the memory behind them."""
    mine = [tensor for tensor in group.tensors if tensor.name.startswith("cross_") == cross]
    both = sum(tensor.bytes for tensor in mine), sum(tensor.storage_bytes for tensor in mine)
    return both[0] // group.num_layers, both[1] // group.num_layers


def _row(
    group: str, part: str, layers: tuple[int, ...], predicted: tuple[int, int], found: LayerBytes
) -> MeasuredTensor:
    """All of some layers that hold the same. predicted: bytes of one layer, and of the memory behind them."""
    number = len(layers)
    return MeasuredTensor(
        group=group,
        name=part,
        shape=found.shapes[0] if found.shapes else (),
        dtype=", ".join(dict.fromkeys(found.dtypes)),
        predicted_bytes=number * predicted[0],
        logical_bytes=number * found.logical_bytes,
        storage_bytes=number * found.storage_bytes,
        predicted_storage_bytes=number * predicted[1],
        layers=layers,
        shapes=found.shapes,
    )


def ranges(numbers: list[int]) -> str:
    """`0-2, 5` for 0, 1, 2, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
