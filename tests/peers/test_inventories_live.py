"""The classes of the pinned transformers, built from the config that each inventory names, have its tensors."""

from __future__ import annotations

import pytest

from kvcalc.errors import NotApplicableError
from kvcalc.io.weights.inventories import inventory_of, preset_config, preset_files
from kvcalc.model.checkpoint import PARTS

transformers = pytest.importorskip("transformers")
from kvcalc.verify.transformers.inventory import inventory  # noqa: E402
from kvcalc.verify.transformers.mtp import with_mtp  # noqa: E402

pytestmark = pytest.mark.peers
NAMES = [path.stem for path in preset_files()]
WITHOUT_TOWER = {"step-3.5-flash"}
ROWS_OF_NO_EXPERT = {"longcat-flash": (768, 4096, 6144)}
"""A tensor that the class has for experts which compute nothing, and the checkpoint has for the others alone."""


def expected(preset, built):
    """Tensors of the class, but for their formats."""
    for tensor in built.tensors:
        if preset in WITHOUT_TOWER and tensor.part == "vision":
            continue
        shape = tensor.shape
        if shape == ROWS_OF_NO_EXPERT.get(preset):
            shape = (512, *shape[1:])
        yield tensor._replace(shape=shape, dtype="")


@pytest.mark.parametrize("preset", NAMES)
def test_the_class_has_the_tensors_of_the_file(preset):
    held, config = inventory_of(preset), preset_config(preset)
    assert held is not None
    built = with_mtp(inventory(config), config)
    assert built.source == held.source
    assert built.experts_per_token == held.experts_per_token
    assert [tensor._replace(dtype="") for tensor in held.tensors] == list(expected(preset, built))
    assert {tensor.part for tensor in held.tensors} <= set(PARTS)


def test_another_config_has_other_tensors():
    config = {**preset_config("qwen3-8b"), "intermediate_size": 12289}
    assert inventory(config).tensors != inventory_of("qwen3-8b").tensors


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "no_such_type"},
        {"model_type": 5},
        {},
        {"model_type": "qwen3", "hidden_size": "wide"},
        {"model_type": "qwen3", "num_hidden_layers": -1, "hidden_size": 0},
        {"model_type": "mixtral", "num_local_experts": None},
    ],
)
def test_a_class_that_cannot_be_built_is_refused_in_one_line(config):
    with pytest.raises(NotApplicableError) as error:
        inventory(config)
    assert "\n" not in str(error.value)
