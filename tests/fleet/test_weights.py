"""What ranks hold of a model's weights: laws over random checkpoints, and a table of cases worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvcalc.fleet.weights import Weights, counted, loaded, on_rank
from kvcalc.io.loading import load
from kvcalc.model import with_draft_layers
from kvcalc.model.checkpoint import Inventory, WeightTensor
from kvcalc.model.weight_formats import FORMATS, weight_format
from kvcalc.parallel import Parallel

LAYERS = tuple(range(4))
MODEL = load(
    {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "hidden_size": 512,
        "num_experts": 16,
        "moe_intermediate_size": 256,
        "max_position_embeddings": 4096,
    }
)
TENSORS = (
    WeightTensor("embedding", "embed_tokens.weight", (1024, 512)),
    WeightTensor("attention", "self_attn.q_proj.weight", (512, 512), LAYERS),
    WeightTensor("attention", "self_attn.k_proj.weight", (128, 512), LAYERS),
    WeightTensor("experts", "mlp.experts.gate_up_proj", (16, 512, 512), LAYERS),
    WeightTensor("router", "mlp.gate.weight", (16, 512), LAYERS),
    WeightTensor("norm", "input_layernorm.weight", (512,), LAYERS),
    WeightTensor("norm", "norm.weight", (512,)),
    WeightTensor("head", "lm_head.weight", (1024, 512)),
)
EMBEDDING, Q, K, EXPERTS, ROUTER, NORM, LAST_NORM, HEAD = (2 * t.elements for t in TENSORS)


def weights(*more: WeightTensor, form: str = "bf16", tensors: tuple[WeightTensor, ...] = TENSORS) -> Weights:
    return counted(Inventory((*tensors, *more), "a class"), weight_format(form), f"in {form}")


def rank_bytes(found: Weights, **degrees: int) -> int:
    return on_rank(found, MODEL, Parallel(**degrees))


WHOLE = EMBEDDING + HEAD + LAST_NORM + 4 * (Q + K + EXPERTS + ROUTER + NORM)
BY_HAND = [
    ({}, WHOLE),
    ({"dp": 4}, WHOLE),
    ({"tp": 2}, (EMBEDDING + HEAD) // 2 + LAST_NORM + 4 * ((Q + K + EXPERTS) // 2 + ROUTER + NORM)),
    ({"tp": 4}, (EMBEDDING + HEAD) // 4 + LAST_NORM + 4 * ((Q + EXPERTS) // 4 + K // 2 + ROUTER + NORM)),
    ({"pp": 2}, EMBEDDING + 2 * (Q + K + EXPERTS + ROUTER + NORM) + LAST_NORM),
    ({"dp": 8, "ep": 8}, EMBEDDING + HEAD + LAST_NORM + 4 * (Q + K + EXPERTS // 8 + ROUTER + NORM)),
    ({"tp": 2, "dp": 4, "ep": 8}, (EMBEDDING + HEAD) // 2 + LAST_NORM + 4 * ((Q + K) // 2 + EXPERTS // 8 + ROUTER + NORM)),
]  # fmt: skip


@pytest.mark.parametrize(("degrees", "expected"), BY_HAND)
def test_each_tensor_is_divided_as_engines_divide_it(degrees, expected):
    assert rank_bytes(weights(), **degrees) == expected


def test_a_tied_head_is_stored_once_and_held_by_the_first_and_the_last_stage():
    tied = weights(tensors=(*TENSORS[:-1], TENSORS[-1]._replace(shares="embed_tokens.weight")))
    assert tied.bytes == WHOLE - HEAD
    assert rank_bytes(tied, pp=2) == EMBEDDING + 2 * (Q + K + EXPERTS + ROUTER + NORM) + LAST_NORM


def test_layers_of_multi_token_prediction_are_loaded_where_they_are_asked_for():
    more = WeightTensor("mtp", "eh_proj.weight", (512, 1024), (4,))
    found = weights(more)
    assert loaded(found, MODEL) == weights()._replace(source=found.source, unloaded_bytes=2 * more.elements)
    r1 = load("r1")
    assert loaded(found, with_draft_layers(r1)) is found
    published = found._replace(bytes=2 * found.bytes)
    assert loaded(published, MODEL).bytes == 2 * WHOLE


@given(
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 10**9),
)
def test_ranks_hold_the_whole_and_more_ranks_never_more_each(form, tp, pp, dp, total):
    found = weights(form=form)._replace(bytes=total)
    each = rank_bytes(found, tp=tp, pp=pp, dp=dp)
    assert each * tp * pp >= total
    assert rank_bytes(found, tp=2 * tp, pp=pp, dp=dp) <= each
    assert rank_bytes(found, tp=tp, pp=pp, dp=dp, ep=tp * dp) <= each


def test_unknown_tensors_are_shared_evenly():
    assert rank_bytes(Weights(1001, "given"), tp=2, pp=2, dp=3) == 251


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("fp8", 512 * 512 + 16 * 4),
        ("fp8-channel", 512 * 512 + 512 * 2),
        ("fp8-tensor", 512 * 512 + 8),
        ("int4", 512 * 512 // 2 + 512 * 4 * 2),
        ("awq", 512 * 512 // 2 + 512 * 4 * 2 + 512 * 4 // 2),
        ("gptq", 512 * 512 // 2 + 512 * 4 * 2 + 512 * 4 // 2 + 512 * 4),
        ("nvfp4", 512 * 512 // 2 + 512 * 32 + 8),
        ("mlx-4bit", 512 * 512 // 2 + 512 * 8 * 4),
        ("q8_0", 512 * 512 // 32 * 34),
        ("q4_0", 512 * 512 // 32 * 18),
        ("q6_k", 512 * 512 // 256 * 210),
        ("mxfp4", 512 * 512 * 2),
    ],
)
def test_a_matrix_in_each_format(form, expected):
    """A projection of attention, 512 x 512, worked out from what each format stores."""
    assert weight_format(form).tensor_bytes(TENSORS[1], 4) == (expected,) * 4


def test_experts_in_mxfp4_and_their_gate_and_up_apart():
    assert weight_format("mxfp4").tensor_bytes(TENSORS[3], 4) == (16 * (512 * 512 // 2 + 512 * 16),) * 4
    assert weight_format("nvfp4").tensor_bytes(TENSORS[3], 4) == (16 * (512 * 512 // 2 + 512 * 32 + 2 * 8),) * 4
