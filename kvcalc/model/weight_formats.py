"""Storage formats of weights: bytes of each tensor of a checkpoint, with scales and zero points.

A quantised checkpoint stores matrices in fewer bits and keeps the rest in 16: embeddings, logits, norms, routers and
towers. Which matrices exactly depends on the publisher, so a size by format is an estimate and labelled as one; a
checkpoint in one plain format (bf16, fp16, fp32) is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import NamedTuple, Protocol

from kvcalc.errors import UnknownNameError
from kvcalc.model.checkpoint import WeightTensor

PLAIN_BYTES = {"F64": 8, "F32": 4, "I32": 4, "I64": 8, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I8": 1, "U8": 1, "BOOL": 1}
"""Bytes per element, by safetensors' names."""
_HALF_BYTES = 2
_MATRIX = 2
_FUSED = "gate_up_proj"
_TABLES = frozenset(("embedding", "head"))
_LAYERS = frozenset(("attention", "state", "mlp", "shared experts", "experts", "encoder", "mtp"))
_KEPT_NAMES = ("embed", "head", "eh_proj", "norm", "conv", "mlp.gate.", "router", "in_proj_a", "in_proj_b", "_bias")
"""Matrices in layers that published checkpoints leave in 16 bits."""


class WeightFormat(Protocol):
    """A checkpoint's storage format. exact: whether it applies to every tensor of every such checkpoint."""

    @property
    def words(self) -> str: ...  # noqa: D102

    @property
    def exact(self) -> bool: ...  # noqa: D102

    def tensor_bytes(self, tensor: WeightTensor, num_layers: int) -> tuple[int, ...]:
        """Bytes of the tensor in each of its layers, or once if it is outside the layers."""


class Plain(NamedTuple):
    """Every element in the same number of bytes, except tensors with their own format."""

    element_bytes: int
    words: str
    exact: bool = True

    def tensor_bytes(self, tensor: WeightTensor, num_layers: int) -> tuple[int, ...]:
        """Elements times bytes."""
        del num_layers
        own = PLAIN_BYTES[tensor.dtype] if tensor.dtype else self.element_bytes
        return (tensor.elements * own,) * tensor.times


class Grouped(NamedTuple):
    """Matrices in few bits, with scales (and zero points) per group of elements.

    bits: per element. group: rows and columns per scale, 0 for all of them. group_bits: scale and zero point of a
    group. matrix_bytes, column_bytes: additional bytes per matrix and per column. parts: with quantised matrices.
    """

    bits: int
    group: tuple[int, int]
    group_bits: int
    words: str
    matrix_bytes: int = 0
    column_bytes: int = 0
    parts: frozenset[str] = _LAYERS
    exact: bool = False

    def tensor_bytes(self, tensor: WeightTensor, num_layers: int) -> tuple[int, ...]:
        """ceil(rows x columns x bits / 8 + groups x group_bits / 8) of each matrix; others in 16 bits."""
        if not self._quantises(tensor):
            return Plain(_HALF_BYTES, "").tensor_bytes(tensor, num_layers)
        *stacked, rows, columns = tensor.shape
        matrices = prod(stacked)
        if _FUSED in tensor.name and stacked:  # gate and up of an expert are quantised separately
            matrices, rows = 2 * matrices, rows // 2
        high, wide = (each or whole for each, whole in zip(self.group, (rows, columns), strict=True))
        groups = -(-rows // high) * -(-columns // wide)
        bits = rows * columns * self.bits + groups * self.group_bits
        each_bytes = -(-bits // 8) + self.matrix_bytes + columns * self.column_bytes
        return (matrices * each_bytes,) * tensor.times

    def _quantises(self, tensor: WeightTensor) -> bool:
        is_table = tensor.part in _TABLES and len(tensor.shape) == _MATRIX
        return not tensor.dtype and tensor.part in self.parts and (is_table or is_weight_matrix(tensor))


def is_weight_matrix(tensor: WeightTensor) -> bool:
    """Whether it is a matrix multiplied with activations, not a table, a kernel or a bias."""
    return len(tensor.shape) >= _MATRIX and not any(name in tensor.name for name in _KEPT_NAMES)


class Mixed(NamedTuple):
    """The K-quants of llama.cpp: blocks of a base type, and wider ones for the most sensitive matrices.

    base: type of most matrices. wider: type of V and of the second feed-forward matrix in the layers that `more` picks.
    Source: llama.cpp, llama-quant.cpp (llama_tensor_get_type).
    """

    base: str
    wider: str
    more: Callable[[int, int], bool]
    words: str
    exact: bool = False

    def tensor_bytes(self, tensor: WeightTensor, num_layers: int) -> tuple[int, ...]:
        """Whole blocks of each row, by the tensor's type in each layer."""
        if len(tensor.shape) < _MATRIX or tensor.part == "router" or "conv" in tensor.name:
            return (tensor.elements * PLAIN_BYTES["F32"],) * tensor.times
        layers = tensor.layers or (0,) * tensor.times
        return tuple(self._bytes(tensor, layer, num_layers) for layer in layers) if tensor.times else ()

    def _bytes(self, tensor: WeightTensor, layer: int, num_layers: int) -> int:
        elements, block_bytes = GGUF_BLOCKS[self._type(tensor, layer, num_layers)]
        *rows, columns = tensor.shape
        if columns % elements:
            elements, block_bytes = GGUF_BLOCKS["q8_0" if self.base > "q5" else "q5_0"]
        return prod(rows) * -(-columns // elements) * block_bytes

    def _type(self, tensor: WeightTensor, layer: int, num_layers: int) -> str:
        if tensor.part == "head" and self.base != "q8_0":
            return "q6_k"
        widened = any(name in tensor.name for name in _WIDENED) and self.more(layer, num_layers)
        return self.wider if widened else self.base


_WIDENED = ("v_proj", "down_proj", "fc2", "dense_4h_to_h", "w2")
"""V and the second matrix of feed-forward layers, by transformers' names."""
GGUF_BLOCKS = {
    **{"q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34)},
    **{"q2_k": (256, 84), "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210)},
}
"""Elements and bytes of a block. Source: ggml-common.h of llama.cpp."""


def _some_layers(layer: int, layers: int) -> bool:
    """The first and the last eighth, and every third between them (use_more_bits)."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2  # noqa: PLR2004


def _no_layer(layer: int, layers: int) -> bool:
    del layer, layers
    return False


def _every_layer(layer: int, layers: int) -> bool:
    del layer, layers
    return True


def _first_eighth(layer: int, layers: int) -> bool:
    return layer < layers // 8


def _mixed(base: str, wider: str = "", more: Callable[[int, int], bool] = _no_layer) -> Mixed:
    elements, block_bytes = GGUF_BLOCKS[base]
    words = f"blocks of {elements} weights in {block_bytes} bytes"
    return Mixed(base, wider or base, more, f"{words}, wider ones for some tensors as in llama.cpp" if wider else words)


_EXPERTS = frozenset(("experts",))
_WITH_TABLES = _LAYERS | _TABLES
FORMATS: dict[str, WeightFormat] = {
    "fp32": Plain(4, "32 bits"),
    "bf16": Plain(2, "16 bits"),
    "fp16": Plain(2, "16 bits"),
    "fp8": Grouped(8, (128, 128), 32, "8 bits, a float32 scale per 128 x 128"),
    "fp8-channel": Grouped(8, (1, 0), 16, "8 bits, a 16-bit scale per row"),
    "fp8-tensor": Grouped(8, (0, 0), 64, "8 bits, two float32 scales per matrix"),
    "int8": Grouped(8, (1, 0), 16, "8 bits, a 16-bit scale per row"),
    "int4": Grouped(4, (1, 128), 16, "4 bits, a 16-bit scale per 128 of a row"),
    "int4-experts": Grouped(
        4, (1, 32), 16, "experts in 4 bits, a 16-bit scale per 32 of a row", matrix_bytes=8, parts=_EXPERTS
    ),
    "awq": Grouped(4, (1, 128), 20, "4 bits, a 16-bit scale and a 4-bit zero per 128 of a row"),
    "gptq": Grouped(4, (1, 128), 20, "4 bits, a 16-bit scale and a 4-bit zero per 128 of a row", column_bytes=4),
    "gptq-8bit": Grouped(8, (1, 128), 24, "8 bits, a 16-bit scale and an 8-bit zero per 128 of a row", column_bytes=4),
    "nvfp4": Grouped(4, (1, 16), 8, "4 bits, an 8-bit scale per 16 of a row", matrix_bytes=8),
    "mxfp4": Grouped(4, (1, 32), 8, "experts in 4 bits, an 8-bit scale per 32 of a row", parts=_EXPERTS),
    "bnb-4bit": Grouped(4, (1, 64), 8, "4 bits, an 8-bit scale per 64"),
    "bnb-8bit": Grouped(8, (1, 0), 32, "8 bits, a float32 scale per row"),
    **{
        f"mlx-{bits}bit": Grouped(bits, (1, 64), 32, f"{bits} bits, scale and bias per 64", parts=_WITH_TABLES)
        for bits in (2, 3, 4, 5, 6, 8)
    },
    "q2_k": _mixed("q2_k", "q3_k", _every_layer),
    "q3_k_s": _mixed("q3_k"),
    "q3_k_m": _mixed("q3_k", "q4_k", _every_layer),
    "q4_0": _mixed("q4_0"),
    "q4_k_s": _mixed("q4_k", "q5_k", _first_eighth),
    "q4_k_m": _mixed("q4_k", "q6_k", _some_layers),
    "q5_0": _mixed("q5_0"),
    "q5_k_s": _mixed("q5_k"),
    "q5_k_m": _mixed("q5_k", "q6_k", _some_layers),
    "q6_k": _mixed("q6_k"),
    "q8_0": _mixed("q8_0"),
}
"""Formats by name. Sources: config.json and hf_quant_config.json of published checkpoints; compressed-tensors;
AutoAWQ and AutoGPTQ (qweight, qzeros, scales); ModelOpt (weight_scale, weight_scale_2, input_scale); bitsandbytes;
mlx.nn.quantize; ggml."""
OTHER_NAMES = {
    **{"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "f16": "fp16", "float32": "fp32", "f32": "fp32"},
    **{"fp8-dynamic": "fp8-channel", "fp8_e4m3": "fp8", "fp8-block": "fp8", "fp8-static": "fp8-tensor"},
    **{"fp4": "nvfp4", "w4a16": "int4"},
    **{"w8a8": "int8", "w8a16": "int8", "nf4": "bnb-4bit", "bnb": "bnb-4bit", "gptq-int4": "gptq"},
    **{"gptq-int8": "gptq-8bit", "awq-int4": "awq", "q4_k": "q4_k_m", "q5_k": "q5_k_m", "q3_k": "q3_k_m"},
}


def find_format(name: str) -> WeightFormat | None:
    """Format of that name, ignoring case; None if there is none."""
    lowered = name.strip().lower()
    return FORMATS.get(OTHER_NAMES.get(lowered, lowered))


def weight_format(name: str) -> WeightFormat:
    """The same. Raises UnknownNameError with the nearest."""
    found = find_format(name)
    if found is None:
        raise UnknownNameError.among("weight format", name, FORMATS)
    return found


def stored(tensors: tuple[WeightTensor, ...], form: WeightFormat) -> Iterator[tuple[WeightTensor, tuple[int, ...]]]:
    """Each tensor with its bytes in each of its layers."""
    num_layers = 1 + max((layer for tensor in tensors for layer in tensor.layers if tensor.part != "mtp"), default=0)
    for tensor in tensors:
        yield tensor, form.tensor_bytes(tensor, num_layers)
