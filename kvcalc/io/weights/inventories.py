"""Tensors of the checkpoints of shipped presets, from their classes: presets/weights/NAME.tsv.

One line per tensor: part, name, shape, layers (`0-2,4`), and the format that it keeps or the tensor whose storage it
shares. `tools/weights.py` writes them from the classes of transformers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kvcalc.errors import InvalidFileError
from kvcalc.hardware import presets_folder
from kvcalc.io.documents import read_text
from kvcalc.io.files import is_file
from kvcalc.model.checkpoint import PARTS, Inventory, WeightTensor
from kvcalc.model.weight_formats import PLAIN_BYTES
from kvcalc.units import plural

FOLDER = "weights"
_COLUMNS = 5
_PARAMETERS = re.compile(r"^# ([\d,]+) parameters?$", re.MULTILINE)
_SHARES = "="
_CONFIG, _EXPERTS = "# config: ", "# experts per token: "


def inventory_of(preset: str) -> Inventory | None:
    """Tensors of a preset's checkpoint; None if its class is unknown."""
    path = presets_folder() / FOLDER / f"{preset}.tsv"
    return parse_inventory(read_text(path), path.name) if preset and is_file(path) else None


def parameters_in(preset: str) -> int | None:
    """Parameters of a preset's checkpoint, from its file; None without one."""
    path = presets_folder() / FOLDER / f"{preset}.tsv"
    said = _PARAMETERS.search(read_text(path)) if is_file(path) else None
    return None if said is None else int(said[1].replace(",", ""))


def preset_config(preset: str) -> dict[str, object] | None:
    """The config from which a preset's class is built, without defaults; None if unknown."""
    path = presets_folder() / FOLDER / f"{preset}.tsv"
    if not preset or not is_file(path):
        return None
    line = next((line for line in read_text(path).splitlines() if line.startswith(_CONFIG)), None)
    config = None if line is None else json.loads(line.removeprefix(_CONFIG))
    return config if isinstance(config, dict) else None


def parse_inventory(text: str, name: str) -> Inventory:
    """Inventory of a file's text, whose first line is its source. Raises InvalidFileError with the line."""
    first, *lines = text.splitlines()
    source = first.removeprefix("#").partition(": ")[2].strip()
    experts = next((line.removeprefix(_EXPERTS) for line in lines if line.startswith(_EXPERTS)), "0")
    return Inventory(tuple(_tensors(lines, name)), source, int(experts) if experts.isdecimal() else 0)


def _tensors(lines: Iterable[str], name: str) -> Iterator[WeightTensor]:
    for number, line in enumerate(lines, 2):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        try:
            yield _tensor(*(*cells, *("",) * _COLUMNS)[:_COLUMNS])
        except (ValueError, KeyError) as error:
            raise InvalidFileError(
                f"is not a tensor of a checkpoint: {error}",
                where=f"{name}:{number}",
                help="generate it with tools/weights.py",
            ) from None


def _tensor(part: str, name: str, shape: str, layers: str, form: str) -> WeightTensor:
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}")
    shares = form.removeprefix(_SHARES) if form.startswith(_SHARES) else ""
    dtype = "" if shares else form
    if dtype and dtype not in PLAIN_BYTES:
        raise ValueError(f"unknown format {dtype!r}")
    return WeightTensor(part, name, tuple(map(int, shape.split("x"))), tuple(_layers(layers)), dtype, shares)


def _layers(text: str) -> Iterator[int]:
    for span in text.split(",") if text else ():
        first, _, last = span.partition("-")
        yield from range(int(first), int(last or first) + 1)


def inventory_text(inventory: Inventory, title: str, remarks: Iterable[str] = ()) -> str:
    """Text that `parse_inventory` parses to the same value."""
    number = plural(inventory.parameters, "parameter")
    experts = [f"{_EXPERTS}{inventory.experts_per_token}"] if inventory.experts_per_token else []
    head = [f"# {title}: {inventory.source}", f"# {number}", *experts, *(f"# {remark}" for remark in remarks)]
    return "\n".join([*head, *map(_line, inventory.tensors)]) + "\n"


def _line(tensor: WeightTensor) -> str:
    form = f"{_SHARES}{tensor.shares}" if tensor.shares else tensor.dtype
    shape = "x".join(map(str, tensor.shape))
    return "\t".join((tensor.part, tensor.name, shape, spans(tensor.layers), form)).rstrip()


def spans(layers: Iterable[int]) -> str:
    """`0-2,4` for layers 0, 1, 2 and 4."""
    found: list[list[int]] = []
    for layer in layers:
        if found and found[-1][1] == layer - 1:
            found[-1][1] = layer
        else:
            found.append([layer, layer])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def preset_files() -> list[Path]:
    """Files of all inventories, by name."""
    return sorted((presets_folder() / FOLDER).glob("*.tsv"))
