"""Tensors of the checkpoints of shipped presets, held against the presets and against what was published."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.errors import InvalidFileError
from kvcalc.io.loading import load
from kvcalc.io.weights.inventories import inventory_of, inventory_text, parse_inventory, preset_config, preset_files
from kvcalc.model.checkpoint import Inventory

NAMES = [path.stem for path in preset_files()]
TWO_ATTENTIONS_A_LAYER = {"longcat-flash"}
"""Whose class has half of the layers that cache."""
NOT_COUNTED = {"step-3.7-flash"}
"""Whose layers of multi-token prediction are not known."""
DECODER = ("attention", "state", "mlp", "shared experts", "experts", "router", "norm")
PUBLISHED = Path(__file__).parents[2] / "data" / "checkpoints.tsv"
CLOSE = 1e-3
TWO_BYTES = ("bf16", "fp16")


class Row(NamedTuple):
    preset: str
    repository: str
    number: int
    unit: str
    form: str
    beyond: int | None
    why: str
    source: str


def rows() -> list[Row]:
    lines = (line.split("\t") for line in PUBLISHED.read_text().splitlines() if not line.startswith("#"))
    return [
        Row(preset, repository, int(number), unit, form, int(beyond) if beyond else None, why, source)
        for preset, repository, number, unit, form, beyond, why, source in lines
    ]


ROWS = rows()
COUNTED = [row for row in ROWS if row.unit == "parameters"]
PLAIN = [row for row in ROWS if row.unit == "bytes" and row.form in TWO_BYTES]


def of(preset: str) -> Inventory:
    found = inventory_of(preset)
    assert found is not None
    return found


def decoder_layers(inventory: Inventory) -> set[int]:
    return {layer for tensor in inventory.tensors if tensor.part in DECODER for layer in tensor.layers}


def disagreements(preset: str, inventory: Inventory) -> list[str]:
    """Where the tensors of a checkpoint say another thing than the preset does."""
    model, layers, found = load(preset), decoder_layers(inventory), []
    if layers != set(range(len(layers))):
        found.append("a layer is missing")
    if len(layers) * (2 if preset in TWO_ATTENTIONS_A_LAYER else 1) != model.num_layers:
        found.append(f"{len(layers)} layers")
    tables = {tensor.shape[0] for tensor in inventory.tensors if tensor.part in ("embedding", "head")}
    if model.published.vocab_size not in {*tables, None}:
        found.append(f"tables of {sorted(tables)} tokens")
    drafts = {layer for tensor in inventory.tensors if tensor.part == "mtp" for layer in tensor.layers}
    drafted = {layer for group in model.draft_groups for layer in group.layers}
    if drafted and preset not in NOT_COUNTED and drafts != drafted:
        found.append(f"layers {sorted(drafts)} of multi-token prediction")
    for group in model.groups:
        for part in group.parts:
            if not isinstance(part, GroupedQueryAttention):
                continue
            for tensor in inventory.tensors:
                is_k = tensor.part == "attention" and tensor.name in ("self_attn.k_proj.weight", "attn.k_proj.weight")
                if (
                    is_k
                    and set(tensor.layers) & set(group.layers)
                    and tensor.shape[0] != part.num_kv_heads * part.head_dim
                ):
                    found.append(f"K of {tensor.shape[0]} in {group.name} layers")
    return found


@pytest.mark.parametrize("preset", NAMES)
def test_a_checkpoint_has_the_layers_the_vocabulary_and_the_heads_of_its_preset(preset):
    assert disagreements(preset, of(preset)) == []


@pytest.mark.parametrize("preset", NAMES)
def test_a_file_is_read_and_written_as_the_same(preset):
    inventory = of(preset)
    assert parse_inventory(inventory_text(inventory, "x"), "x.tsv") == inventory
    assert len(set(inventory.tensors)) == len(inventory.tensors)
    named = {tensor.name for tensor in inventory.tensors}
    assert {tensor.shares for tensor in inventory.tensors} <= {*named, ""}


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: f"{row.preset}-{row.repository}")
def test_what_the_hub_counts_is_the_inventory_and_what_it_has_beyond(row):
    assert row.beyond is not None
    assert of(row.preset).parameters + row.beyond == row.number
    assert bool(row.beyond) == bool(row.why)


@pytest.mark.parametrize("row", PLAIN, ids=lambda row: f"{row.preset}-{row.repository}")
def test_sixteen_bits_a_parameter_are_the_published_bytes(row):
    assert 2 * of(row.preset).parameters + (row.beyond or 0) == row.number
    assert bool(row.beyond) == bool(row.why)


def test_most_presets_are_held_against_a_published_size_within_a_thousandth():
    close = {row.preset for row in COUNTED if abs(row.beyond or 0) <= CLOSE * row.number}
    exact = {row.preset for row in COUNTED if not row.beyond}
    assert len(close) >= 110
    assert len(exact) >= 85
    assert len(NAMES) >= 148


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda t: t._replace(layers=tuple(range(30))) if t.layers else t, "30 layers"),
        (
            lambda t: t._replace(shape=(1000, *t.shape[1:])) if t.part in ("embedding", "head") else t,
            "tables of [1000]",
        ),
        (lambda t: t._replace(shape=(512, 4096)) if t.name == "self_attn.k_proj.weight" else t, "K of 512 in"),
    ],
)
def test_a_spoiled_inventory_is_noticed(spoil, found):
    inventory = of("qwen3-8b")
    spoiled = inventory._replace(tensors=tuple(map(spoil, inventory.tensors)))
    assert any(found in line for line in disagreements("qwen3-8b", spoiled))


def test_every_file_says_from_which_config_it_was_made():
    assert all(preset_config(preset) for preset in NAMES)


@pytest.mark.parametrize(
    "line",
    ["wheels\tx.weight\t2x2", "mlp\tx.weight\t2xb", "mlp\tx.weight\t2x2\t0-a", "mlp\tx.weight\t2x2\t0\tF99"],
)
def test_a_line_that_is_no_tensor_is_refused_with_its_number(line):
    with pytest.raises(InvalidFileError, match=r"x\.tsv:2"):
        parse_inventory(f"# a: b\n{line}\n", "x.tsv").tensors  # noqa: B018
