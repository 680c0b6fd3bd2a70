"""Layers of multi-token prediction: in published checkpoints, and in no class of transformers.

Each rule is checked against what was published (`tests/data/checkpoints.tsv`): a layer of the model once more, and
around it the projection of two hidden states into one, their norms and, in some checkpoints, additional tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kvcalc.model.checkpoint import Inventory, WeightTensor

_EAGLE = ("eh_proj.weight: H x 2H", "enorm.weight: H", "hnorm.weight: H", "shared_head.norm.weight: H")
_TABLES = ("embed_tokens.weight: V x H", "shared_head.head.weight: V x H")
_QWEN = ("fc.weight: H x 2H", "pre_fc_norm_embedding.weight: H", "pre_fc_norm_hidden.weight: H", "norm.weight: H")
_NEMOTRON = ("eh_proj.weight: H x 2H", "enorm.weight: H", "hnorm.weight: H", "final_layernorm.weight: H")
_V4_NORMS = ("enorm.weight: H", "hnorm.weight: H", "norm.weight: H")
_COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
"""Fields that say how many of these layers a checkpoint has."""
_LONGCAT_NORMS = ("input_layernorm.weight: H", "post_attention_layernorm.weight: H")

Rows = Sequence[WeightTensor]


class _Rule(NamedTuple):
    """What a checkpoint holds for each of its layers of multi-token prediction.

    own: tensors around the layer, H its hidden size and V the vocabulary. layer: the tensors of the class that the
    layer itself has again. always: how many there are where the config does not say.
    """

    own: tuple[str, ...]
    layer: Callable[[Rows], Iterator[WeightTensor]]
    always: int = 1


def with_mtp(inventory: Inventory, values: Mapping[str, object]) -> Inventory:
    """An inventory with the layers of multi-token prediction that its checkpoint has, numbered on from the last layer.

    An inventory whose class has no rule is returned unchanged.
    """
    rule = _RULES.get(inventory.source.partition(" ")[0])
    if rule is None:
        return inventory
    text = values.get("text_config")
    fields = {**values, **(text if isinstance(text, Mapping) else {})}
    number = next((n for n in map(fields.get, _COUNTS) if type(n) is int), rule.always)
    first = 1 + max(_layers(inventory.tensors))
    added = _added(rule, inventory.tensors, tuple(range(first, first + number)))
    return inventory._replace(tensors=(*inventory.tensors, *added)) if number else inventory


def _added(rule: _Rule, rows: Rows, layers: tuple[int, ...]) -> Iterator[WeightTensor]:
    vocabulary, hidden = next(row.shape for row in rows if row.part == "embedding")
    sizes = {"H": hidden, "2H": 2 * hidden, "4H": 4 * hidden, "V": vocabulary}
    for row in rule.layer(rows):
        yield row._replace(part="mtp", layers=layers, shares="")
    for own in rule.own:
        name, _, shape = own.partition(": ")
        name, _, dtype = name.partition(" ")
        sides = tuple(sizes.get(side) or int(side) for side in shape.split(" x "))
        yield WeightTensor("mtp", name, sides, layers, dtype)


def _layers(rows: Rows) -> set[int]:
    """Layers of the decoder: towers and encoders number their own."""
    return {layer for row in rows if row.part not in ("vision", "encoder") for layer in row.layers}


def _of_layer(rows: Rows, layer: int) -> Iterator[WeightTensor]:
    return (row for row in rows if row.part not in ("vision", "encoder") and layer in row.layers)


def _last(rows: Rows) -> Iterator[WeightTensor]:
    """The last layer again."""
    return _of_layer(rows, max(_layers(rows)))


def _attention_and_experts(rows: Rows) -> Iterator[WeightTensor]:
    """A layer of attention and one of experts (nemotron_h has one mixer a layer)."""
    for part in ("attention", "experts"):
        layer = next(row.layers[-1] for row in rows if row.part == part)
        yield from (row._replace(name=f"{part}.{row.name}") for row in _of_layer(rows, layer))


def _without_compressor(rows: Rows) -> Iterator[WeightTensor]:
    """The last layer, which attends to only a window."""
    return (row for row in _last(rows) if "compressor" not in row.name)


def _windowed_and_dense(rows: Rows) -> Iterator[WeightTensor]:
    """Attention of a sliding layer, which has the most heads here, and the dense feed-forward of the first."""

    def attention_size(layer: int) -> int:
        return sum(row.elements for row in _of_layer(rows, layer) if row.part == "attention")

    sliding = max(sorted(_layers(rows), reverse=True), key=attention_size)
    yield from (row for row in _of_layer(rows, sliding) if row.part in ("attention", "norm"))
    yield from (row for row in _of_layer(rows, 0) if row.part == "mlp")


def _first_half(rows: Rows) -> Iterator[WeightTensor]:
    """The first of the two attentions and dense feed-forwards of a layer (longcat_flash)."""
    for row in _last(rows):
        if row.name.startswith(("self_attn.0.", "mlps.0.")):
            yield row._replace(name=row.name.replace(".0.", ".", 1))


_V4_STREAM = ("hc_head.hc_fn F32: 4 x 4H", "hc_head.hc_base F32: 4", "hc_head.hc_scale F32: 1")
_RULES = {
    "DeepseekV3ForCausalLM": _Rule((*_EAGLE, *_TABLES), _last, always=0),
    "DeepseekV32ForCausalLM": _Rule((*_EAGLE, *_TABLES), _last),
    "DeepseekV4ForCausalLM": _Rule(
        ("e_proj.weight: H x H", "h_proj.weight: H x H", *_V4_NORMS, *_V4_STREAM), _without_compressor
    ),
    "Glm4MoeForCausalLM": _Rule((*_EAGLE, *_TABLES), _last),
    "Glm4MoeLiteForCausalLM": _Rule((*_EAGLE, *_TABLES), _last),
    "GlmMoeDsaForCausalLM": _Rule(_EAGLE, _last),
    "HYV3ForCausalLM": _Rule(("eh_proj.weight: H x 2H", *_V4_NORMS[:2], "final_layernorm.weight: H"), _last),
    "LongcatFlashForCausalLM": _Rule(
        ("eh_proj.weight: H x 2H", *_V4_NORMS, *_LONGCAT_NORMS, "embed_tokens.weight: V x H"), _first_half
    ),
    "MiMoV2FlashForCausalLM": _Rule(
        ("eh_proj.weight: H x 2H", *_V4_NORMS[:2], "final_layernorm.weight: H"), _windowed_and_dense, always=3
    ),
    "NemotronHForCausalLM": _Rule(_NEMOTRON, _attention_and_experts, always=0),
    "Step3p7ForConditionalGeneration": _Rule(
        (*_EAGLE, "shared_head.output.weight: V x H"), _windowed_and_dense, always=0
    ),
    "Qwen3NextForCausalLM": _Rule(_QWEN, _last),
    "Qwen3_5ForCausalLM": _Rule(_QWEN, _last),
    "Qwen3_5ForConditionalGeneration": _Rule(_QWEN, _last),
    "Qwen3_5MoeForCausalLM": _Rule(_QWEN, _last),
    "Qwen3_5MoeForConditionalGeneration": _Rule(_QWEN, _last),
}
"""Rules by class. Checked against the totals of published checkpoints, to the element."""
